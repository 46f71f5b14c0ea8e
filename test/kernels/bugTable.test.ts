// The bug table of a real kernel, read as the debugger reads it from a guest.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { brkImmediate, instructionWord } from '../../src/arch/aarch64/instructions.ts';
import { Gva } from '../../src/base/address.ts';
import { MemoryFault } from '../../src/base/errors.ts';
import type { VirtualMemory } from '../../src/base/memory.ts';
import { BugTable } from '../../src/linux/bugTable.ts';
import { Kernel } from './kernel.ts';

test('each BRK #0x800 of the code is in the bug table: some are BUG, most are WARN', async () => {
  const image = (await Kernel.of('arm64')).open();
  try {
    const memory: VirtualMemory = {
      read: async (address, length) => {
        const bytes = image.initialBytes(address, length);
        if (bytes === undefined) throw new MemoryFault('virtual', address, 'not in the image');
        return bytes;
      },
      write: async () => assert.fail('nothing is written'),
    };
    const table = BugTable.of(image);
    assert.ok(table !== undefined);
    const count = { bug: 0, warn: 0, unknown: 0 };
    for (const { address, size } of image.sections.filter(({ isCode }) => isCode)) {
      const code = image.imageBytes(address, Number(size)) ?? new Uint8Array(0);
      for (let offset = 0; offset + 4 <= code.length; offset += 4) {
        if (brkImmediate(instructionWord(code.subarray(offset, offset + 4))) !== 0x800) continue;
        const isWarning = await table.isWarning(Gva(address + BigInt(offset)), 0n, memory);
        count[isWarning === undefined ? 'unknown' : isWarning ? 'warn' : 'bug']++;
      }
    }
    const [start, end] = ['__start___bug_table', '__stop___bug_table'].map(
      (name) => image.symbolsNamed(name)[0]?.address,
    );
    assert.equal(
      count.bug + count.warn,
      Number((end ?? 0n) - (start ?? 0n)) / 12,
      'the size of an entry, see readelf -S',
    );
    assert.equal(count.unknown, 0);
    assert.ok(count.bug > 500 && count.warn > 1000, JSON.stringify(count));
  } finally {
    image.close();
  }
});
