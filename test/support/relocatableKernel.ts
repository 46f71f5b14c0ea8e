// The tiny kernel of dwarfKernel.ts as a relocatable file: what is an address there is a relocation here.

import { buildKernelDwarf, type KernelOptions, text } from './dwarfKernel.ts';
import { ALLOC, buildElf, type ElfInput, EXEC, type RelocationInput } from './elfBuilder.ts';

export interface ModuleOptions extends KernelOptions {
  /** Relocations in descending order, which the standard allows. */
  readonly descending?: boolean;
  readonly machine?: 'aarch64' | 'x86_64';
}

/** R_AARCH64_ABS64, R_X86_64_64. */
const absolute64 = { aarch64: 257, x86_64: 1 } as const;
const machines = { aarch64: 183, x86_64: 62 } as const;

const textBytes = 0x80;

/** As an input of `buildElf`, for tests to change. The first section, .data of 5 bytes, is in front of .text. */
export const moduleInput = (options: ModuleOptions = {}): ElfInput => {
  const { machine = 'aarch64', descending = false, ...rest } = options;
  const relocations: Record<string, RelocationInput[]> = {};
  const debug = buildKernelDwarf(rest)
    .sections()
    .map((section) => {
      const bytes = section.bytes.slice();
      const view = new DataView(bytes.buffer);
      const found: RelocationInput[] = [];
      for (let offset = 0; offset + 8 <= bytes.length; offset++) {
        const value = view.getBigUint64(offset, true);
        if (value < text || value > text + BigInt(textBytes)) continue;
        found.push({ offset, type: absolute64[machine], symbol: 0, addend: value - text });
        view.setBigUint64(offset, 0x5555_5555_5555_5555n, true);
      }
      if (found.length > 0) relocations[section.name] = descending ? found.reverse() : found;
      return { ...section, bytes };
    });
  return {
    type: 1,
    machine: machines[machine],
    sections: [
      { name: '.data', bytes: Uint8Array.of(1, 2, 3, 4, 5), flags: ALLOC },
      { name: '.text', bytes: Uint8Array.from({ length: textBytes }, (_, i) => i), flags: ALLOC | EXEC },
      ...debug,
    ],
    symbols: [
      { name: '', value: 0n, type: 3, section: '.text' },
      { name: 'start_kernel', value: 0n, size: 0x40, global: true, section: '.text' },
      { name: 'helper', value: 0x40n, size: 0x20, section: '.text' },
      { name: 'counter', value: 4n, size: 1, type: 1, section: '.data' },
      { name: 'printk', value: 0n },
    ],
    relocations,
  };
};

export const buildModule = (options: ModuleOptions = {}): Uint8Array => buildElf(moduleInput(options));
