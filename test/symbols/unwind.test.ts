import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FormatError } from '../../src/base/errors.ts';
import { BufferSection } from '../../src/symbols/byteSource.ts';
import { FrameSection } from '../../src/symbols/dwarf/cfi.ts';
import { Bytes } from '../support/elfBuilder.ts';

const code = 0xffff_8000_0801_0000n;

interface CieInput {
  readonly version?: number;
  readonly augmentation?: string;
  readonly data?: (bytes: Bytes) => void;
  readonly instructions?: (bytes: Bytes) => void;
}

/** .debug_frame: a CIE at 0 (code alignment 4, data alignment -8, return address in 30) and FDEs. */
const debugFrame = (cie: CieInput, ...fdes: readonly [bigint, number, (bytes: Bytes) => void][]): FrameSection => {
  const bytes = new Bytes().counted((entry) => {
    entry
      .u32(0xffff_ffff)
      .u8(cie.version ?? 3)
      .string(cie.augmentation ?? '');
    if (cie.version === 4) entry.u8(8, 0);
    entry.uleb(4).sleb(-8).uleb(30);
    if (cie.augmentation?.startsWith('z')) {
      const data = new Bytes();
      cie.data?.(data);
      entry.uleb(data.length).bytes(data.done());
    }
    (cie.instructions ?? ((out) => out.u8(0x0c).uleb(31).uleb(0)))(entry);
  });
  for (const [start, size, program] of fdes) {
    bytes.counted((entry) => {
      entry.u32(0).u64(start).u64(size);
      if (cie.augmentation?.startsWith('z')) entry.uleb(0);
      program(entry);
    });
  }
  return new FrameSection(new BufferSection('.debug_frame', bytes.done()), 'debug_frame', 0n, 8);
};

test('a gcc function for arm64: signed return address, frame record, epilogue', () => {
  const frames = debugFrame({}, [
    code,
    0x40,
    (out) =>
      out
        .u8(0x41, 0x2d) // advance 4: DW_CFA_AARCH64_negate_ra_state
        .u8(0x41).u8(0x0e).uleb(32).u8(0x80 | 29).uleb(4).u8(0x80 | 30).uleb(3) // advance 4: cfa sp+32, x29, x30
        .u8(0x02, 8).u8(0x0a) // advance 32: remember
        .u8(0xc0 | 30, 0xc0 | 29).u8(0x0e).uleb(0).u8(0x41, 0x2d) // epilogue; advance 4
        .u8(0x41).u8(0x0b), // advance 4: what was remembered
  ]); // biome-ignore format: as readelf shows it
  const row = (offset: number) => frames.row(code + BigInt(offset));
  const first = row(0);
  assert.deepEqual(first?.cfa, { kind: 'register', register: 31, offset: 0n });
  assert.equal(first?.returnAddressSigned, false);
  assert.equal(first?.returnAddress, 30);
  assert.equal(first?.signalFrame, false);
  assert.deepEqual([first?.start, first?.end], [code, code + 4n]);
  assert.equal(row(4)?.returnAddressSigned, true);
  assert.equal(row(4)?.registers.size, 0);
  const body = row(0x20);
  assert.deepEqual(body?.cfa, { kind: 'register', register: 31, offset: 32n });
  assert.deepEqual([...(body?.registers ?? [])], [
    [29, { kind: 'offset', offset: -32n }],
    [30, { kind: 'offset', offset: -24n }],
  ]); // biome-ignore format: pairs
  assert.deepEqual([body?.start, body?.end], [code + 8n, code + 0x28n]);
  assert.deepEqual(row(0x28)?.cfa, { kind: 'register', register: 31, offset: 0n });
  assert.equal(row(0x28)?.returnAddressSigned, true);
  assert.equal(row(0x2c)?.returnAddressSigned, false);
  const last = row(0x3f);
  assert.equal(last?.registers.size, 2);
  assert.equal(last?.returnAddressSigned, true);
  assert.deepEqual([last?.start, last?.end], [code + 0x30n, code + 0x40n]);
  assert.equal(row(0x40), undefined);
  assert.equal(row(-1), undefined);
});

test('every rule', () => {
  const block = [0x70, 0x08];
  const frames = debugFrame({ version: 4, instructions: (out) => out.u8(0x0c).uleb(7).uleb(8).u8(0x80 | 16).uleb(1) }, [
    code,
    0x100,
    (out) =>
      out
        .u8(0x07).uleb(1).u8(0x08).uleb(2).u8(0x09).uleb(3).uleb(40).u8(0x05).uleb(100).uleb(2)
        .u8(0x11).uleb(4).sleb(-3).u8(0x14).uleb(5).uleb(1).u8(0x15).uleb(6).sleb(-1)
        .u8(0x10).uleb(8).uleb(2).bytes(block).u8(0x16).uleb(9).uleb(2).bytes(block).u8(0x2f).uleb(10).uleb(2)
        .u8(0x2e).uleb(16).u8(0).u8(0x07).uleb(16)
        .u8(0x03).u16(4).u8(0x06).uleb(16).u8(0x12).uleb(6).sleb(-2)
        .u8(0x04).u32(4).u8(0x0d).uleb(7).u8(0x13).sleb(-4)
        .u8(0x01).u64(code + 0x80n).u8(0x0f).uleb(2).bytes(block),
  ]); // biome-ignore format: one idea a line
  assert.deepEqual([...(frames.row(code)?.registers ?? [])], [
    [16, { kind: 'undefined' }],
    [1, { kind: 'undefined' }],
    [2, { kind: 'same' }],
    [3, { kind: 'register', register: 40 }],
    [100, { kind: 'offset', offset: -16n }],
    [4, { kind: 'offset', offset: 24n }],
    [5, { kind: 'valOffset', offset: -8n }],
    [6, { kind: 'valOffset', offset: 8n }],
    [8, { kind: 'expression', bytes: Uint8Array.from(block) }],
    [9, { kind: 'valExpression', bytes: Uint8Array.from(block) }],
    [10, { kind: 'offset', offset: 16n }],
  ]); // biome-ignore format: pairs
  const restored = frames.row(code + 0x10n);
  assert.deepEqual(restored?.registers.get(16), { kind: 'offset', offset: -8n }, 'the rule of the CIE');
  assert.deepEqual(restored?.cfa, { kind: 'register', register: 6, offset: 16n });
  assert.deepEqual(frames.row(code + 0x20n)?.cfa, { kind: 'register', register: 7, offset: 32n });
  assert.deepEqual(frames.row(code + 0x80n)?.cfa, { kind: 'expression', bytes: Uint8Array.from(block) });
});

test('FDEs in any order; discarded ones', () => {
  const nothing = (): void => {};
  const frames = debugFrame({}, [code + 0x20n, 8, nothing], [0n, 0x1000, nothing], [code, 8, nothing]);
  assert.equal(frames.row(code + 4n)?.start, code);
  assert.equal(frames.row(code + 0x24n)?.end, code + 0x28n);
  assert.equal(frames.row(code + 8n), undefined);
  assert.equal(frames.row(0x10n), undefined);
});

test('.eh_frame: pc-relative addresses, augmentation data, signal frames, a terminator in the middle', () => {
  const address = 0x40_0000n;
  const bytes = new Bytes().u32(0); // ends what crtbegin contributed
  const cie = bytes.length;
  bytes.counted((entry) => {
    entry.u32(0).u8(1).string('zPLRSB').uleb(1).sleb(-8).u8(16);
    entry.uleb(7).u8(0x03).u32(0x1234).u8(0x1b).u8(0x1b); // personality udata4, LSDA, FDE: sdata4 pcrel
    entry.u8(0x0c).uleb(7).uleb(8).u8(0x90).uleb(1);
  });
  const fde = bytes.length;
  bytes.counted((entry) => {
    entry
      .u32(fde + 4 - cie)
      .u32(-0x1000 - (fde + 8))
      .u32(0x10);
    entry.uleb(4).u32(0).u8(0x42).u8(0x0e).uleb(16);
  });
  const frames = new FrameSection(new BufferSection('.eh_frame', bytes.done()), 'eh_frame', address, 8);
  const start = address - 0x1000n;
  assert.deepEqual(frames.row(start)?.cfa, { kind: 'register', register: 7, offset: 8n });
  const row = frames.row(start + 2n);
  assert.deepEqual(row?.cfa, { kind: 'register', register: 7, offset: 16n });
  assert.deepEqual(row?.registers.get(16), { kind: 'offset', offset: -8n });
  assert.equal(row?.signalFrame, true);
  assert.equal(row?.returnAddress, 16);
});

test('what cannot be is a FormatError with an offset', () => {
  const broken = (program: (bytes: Bytes) => void, cie: CieInput = {}): void => {
    const frames = debugFrame(cie, [code, 0x40, program]);
    assert.throws(
      () => frames.row(code),
      (error) => error instanceof FormatError && error.where === '.debug_frame',
    );
  };
  broken((out) => out.u8(0x0b)); // nothing remembered
  broken((out) => out.u8(0x3f)); // no such instruction
  broken((out) => out.u8(0x0f).uleb(1000));
  broken((out) => out.bytes(new Uint8Array(2000).fill(0x0a)));
  broken(() => {}, { instructions: () => {} }); // no CFA
  broken((out) => out.u8(0x0e).uleb(8), { instructions: () => {} });
  broken(() => {}, { version: 9 });
  broken(() => {}, { augmentation: 'armcc' });
});
