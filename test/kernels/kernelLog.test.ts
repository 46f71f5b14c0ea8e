// The log of real kernels, by their own symbols: what is there of it before they run.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryFault, UserError } from '../../src/base/errors.ts';
import type { VirtualMemory } from '../../src/base/memory.ts';
import { KernelLog } from '../../src/linux/kernelLog.ts';
import { architectures, Kernel } from './kernel.ts';

for (const architecture of architectures) {
  test(`${architecture}: the log is found, and empty`, async () => {
    const image = (await Kernel.of(architecture)).open();
    try {
      const memory: VirtualMemory = {
        read: async (address, length) => {
          const bytes = image.initialBytes(address, length);
          if (bytes === undefined) throw new MemoryFault('virtual', address, 'not in the image');
          return bytes;
        },
        write: async () => assert.fail('nothing is written'),
      };
      const log = KernelLog.of(image);
      assert.ok(log !== undefined);
      // The pointers of an arm64 image are put in when it relocates itself.
      if (architecture === 'arm64') await assert.rejects(log.read(0n, memory), UserError);
      else assert.deepEqual(await log.read(0n, memory), { records: [], omitted: 0 });
    } finally {
      image.close();
    }
  });
}
