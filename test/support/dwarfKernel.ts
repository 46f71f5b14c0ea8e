// A tiny kernel: one C unit with an inlined function, one header, one assembly unit. The shape is that of gcc 12.

import { DwarfBuilder } from './dwarfBuilder.ts';
import { ALLOC, type Bytes, buildElf, EXEC, Bytes as Writer } from './elfBuilder.ts';

export const text = 0xffff_8000_0801_0000n;

/** Addresses relative to `text`:
 *    0x00 start_kernel's patchable nops   0x08 … 0x40 start_kernel; 0x18 … 0x20 and 0x28 … 0x30 inlined get_page
 *    0x40 … 0x60 helper                   0x60 … 0x70 entry (assembly)                0x70 … 0x80 no debug information */
export const at = (offset: number): bigint => text + BigInt(offset);

const DW_TAG = { unit: 0x11, subprogram: 0x2e, inlined: 0x1d, block: 0x0b, base: 0x24, variable: 0x34 };
const AT = {
  name: 0x03, stmtList: 0x10, lowPc: 0x11, highPc: 0x12, language: 0x13, compDir: 0x1b, inline: 0x20, producer: 0x25,
  origin: 0x31, ranges: 0x55, entryPc: 0x52, location: 0x02, sibling: 0x01,
}; // biome-ignore format: a table
const FORM = {
  addr: 0x01, data1: 0x0b, data2: 0x05, data8: 0x07, string: 0x08, strp: 0x0e, ref4: 0x13, secOffset: 0x17, exprloc: 0x18,
}; // biome-ignore format: a table

export interface KernelOptions {
  /** Options and location lists tell an optimising compiler: no prologue is skipped. */
  readonly optimised?: boolean;
  readonly aranges?: boolean;
  readonly version?: 4 | 5;
  /** Whether functions have symbols. */
  readonly symbols?: boolean;
}

/** The C unit's rows, by offset: line (file): 08:10 0c:11 10:12(not a statement) 14:13 18:100(h) 20:13 24:14 28:100(h)
 *  30:15 38:13 and the end at 40; helper 40:20 44:20 50:21, end at 60. */
export const buildKernelDwarf = (options: KernelOptions = {}): DwarfBuilder => {
  const { optimised = true, aranges = true, version = 5 } = options;
  const dwarf = new DwarfBuilder();
  const v5 = version === 5;
  const c = 1;
  const h = 2;
  const cLine = dwarf.program({
    version,
    directories: v5 ? ['/build/obj', 'init', 'include/linux'] : ['init', 'include/linux'],
    files: v5
      ? [
          { name: 'main.c', directory: 1 },
          { name: 'main.c', directory: 1 },
          { name: 'mm.h', directory: 2 },
        ]
      : [
          { name: 'main.c', directory: 1 },
          { name: 'mm.h', directory: 2 },
        ],
    md5: v5,
    ops: [
      { op: 'file', value: c },
      { op: 'address', value: at(0x08) },
      { op: 'line', value: 9 },
      { op: 'column', value: 2 },
      { op: 'copy' },
      { op: 'row', pc: 4, line: 1 },
      { op: 'negate' },
      { op: 'row', pc: 4, line: 1 },
      { op: 'negate' },
      { op: 'row', pc: 4, line: 1 },
      { op: 'file', value: h },
      { op: 'line', value: 87 },
      { op: 'discriminator', value: 300 },
      { op: 'row', pc: 4, line: 0 },
      { op: 'file', value: c },
      { op: 'line', value: -87 },
      { op: 'row', pc: 8, line: 0 },
      { op: 'row', pc: 4, line: 1 },
      { op: 'file', value: h },
      { op: 'line', value: 86 },
      { op: 'row', pc: 4, line: 0 },
      { op: 'file', value: c },
      { op: 'line', value: -85 },
      { op: 'row', pc: 8, line: 0 },
      { op: 'row', pc: 8, line: -2 },
      { op: 'advancePc', value: 8 },
      { op: 'end' },
      { op: 'address', value: at(0x40) },
      { op: 'line', value: 19 },
      { op: 'copy' },
      { op: 'row', pc: 4, line: 0 },
      { op: 'fixedAdvancePc', value: 12 },
      { op: 'line', value: 1 },
      { op: 'copy' },
      { op: 'advancePc', value: 16 },
      { op: 'end' },
      // Discarded by the linker.
      { op: 'address', value: 0n },
      { op: 'line', value: 499 },
      { op: 'copy' },
      { op: 'advancePc', value: 16 },
      { op: 'end' },
    ],
  });
  const abbreviations = dwarf.abbreviations(
    [
      200, DW_TAG.unit, true, [AT.producer, FORM.strp], [AT.language, FORM.data1], [AT.name, FORM.string],
      [AT.compDir, FORM.string], [AT.lowPc, FORM.addr], [AT.highPc, FORM.data8], [AT.stmtList, FORM.secOffset],
    ],
    [1, DW_TAG.subprogram, false, [AT.name, FORM.strp], [AT.inline, FORM.data1]],
    [2, DW_TAG.subprogram, true, [AT.name, FORM.strp], [AT.lowPc, FORM.addr], [AT.highPc, FORM.data8], [AT.sibling, FORM.ref4]],
    [3, DW_TAG.inlined, false, [AT.origin, FORM.ref4], [AT.entryPc, FORM.addr], [AT.lowPc, FORM.addr], [AT.highPc, FORM.data8]],
    [4, DW_TAG.block, true],
    [5, DW_TAG.subprogram, false, [AT.name, FORM.strp], [AT.lowPc, FORM.addr], [AT.highPc, FORM.data8]],
    [6, DW_TAG.variable, false, [AT.location, optimised ? FORM.secOffset : FORM.exprloc]],
  ); // biome-ignore format: a table
  const cUnit = dwarf.unit(version, abbreviations, (dies) => {
    dies
      .uleb(200)
      .u32(dwarf.str.add(optimised ? 'GNU C11 12.2.0 -O0 -O2' : 'GNU C11 12.2.0 -O2 -O0'))
      .u8(0x1d)
      .string('init/main.c')
      .string('/build/obj');
    dies.u64(at(0)).u64(0x60).u32(cLine);
    const getPage = dies.length + 4;
    dies.uleb(1).u32(dwarf.str.add('get_page')).u8(3);
    dies.uleb(2).u32(dwarf.str.add('start_kernel')).u64(at(8)).u64(0x38);
    const children = new Writer();
    children.uleb(4);
    inlined(children, getPage, at(0x18), at(0x18), 8);
    inlined(children, getPage, at(0x2c), at(0x28), 8);
    children.u8(0, 0);
    dies.u32(dies.length + 4 + 4 + children.length).bytes(children.done());
    dies.uleb(5).u32(dwarf.str.add('helper')).u64(at(0x40)).u64(0x20);
    dies.u8(0);
  });
  const asmLine = dwarf.program({
    version: 5,
    strings: 'inline',
    directories: ['/build/obj', '/src/linux/arch/arm64/kernel'],
    files: [
      { name: 'entry.S', directory: 1 },
      { name: 'entry.S', directory: 1 },
    ],
    ops: [
      { op: 'address', value: at(0x60) },
      { op: 'line', value: 49 },
      { op: 'copy' },
      { op: 'row', pc: 4, line: 0 },
      { op: 'row', pc: 4, line: 1 },
      { op: 'row', pc: 4, line: -1 },
      { op: 'advancePc', value: 4 },
      { op: 'end' },
    ],
  });
  const asmAbbreviations = dwarf.abbreviations([
    1, DW_TAG.unit, false, [AT.name, FORM.string], [AT.language, FORM.data2], [AT.stmtList, FORM.secOffset],
    [AT.lowPc, FORM.addr], [AT.highPc, FORM.data8],
  ]); // biome-ignore format: a table
  const asmUnit = dwarf.unit(5, asmAbbreviations, (dies) => {
    dies.uleb(1).string('/src/linux/arch/arm64/kernel/entry.S').u16(0x8001).u32(asmLine).u64(at(0x60)).u64(0x10);
  });
  if (aranges) {
    dwarf.arange(cUnit, [[at(0), at(0x60)]]);
    dwarf.arange(asmUnit, [[at(0x60), at(0x70)]]);
  }
  dwarf.extra.push({ name: '.debug_frame', bytes: frames() });
  return dwarf;
};

/** start_kernel: the CFA is sp + 0, from the second instruction on sp + 32 with the frame record at its bottom. */
const frames = (): Uint8Array =>
  new Writer()
    .counted((cie) => cie.u32(0xffff_ffff).u8(3).string('').uleb(4).sleb(-8).uleb(30).u8(0x0c).uleb(31).uleb(0))
    .counted((fde) =>
      fde
        .u32(0)
        .u64(at(8))
        .u64(0x38)
        .u8(0x41, 0x0e)
        .uleb(32)
        .u8(0x80 | 29)
        .uleb(4)
        .u8(0x80 | 30)
        .uleb(3),
    )
    .done();

const inlined = (dies: Bytes, origin: number, entry: bigint, low: bigint, size: number): void => {
  dies.uleb(3).u32(origin).u64(entry).u64(low).u64(size);
};

export const buildKernel = (options: KernelOptions = {}): Uint8Array =>
  buildElf({
    sections: [
      { name: '.text', bytes: Uint8Array.from({ length: 0x80 }, (_, i) => i), flags: ALLOC | EXEC, address: text },
      ...buildKernelDwarf(options).sections(),
    ],
    symbols:
      options.symbols === false
        ? []
        : [
            { name: 'main.c', value: 0n, type: 4, section: '.text' },
            { name: '$x', value: text, type: 0, section: '.text' },
            { name: 'local_alias', value: at(0), size: 0x40, section: '.text' },
            { name: 'start_kernel', value: at(0), size: 0x40, global: true, section: '.text' },
            { name: 'arm64_start_kernel', value: at(0), size: 0x40, section: '.text' },
            { name: 'helper', value: at(0x40), size: 0x20, section: '.text' },
            { name: 'inner_label', value: at(0x48), type: 0, section: '.text' },
            { name: 'entry', value: at(0x60), type: 0, global: true, section: '.text' },
            { name: 'bare', value: at(0x70), size: 8, section: '.text' },
            { name: 'undefined_one', value: 0n },
          ],
  });
