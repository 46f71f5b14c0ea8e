// A pretended kernel in physical memory: where it is found, and how far it has moved.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gpa } from '../../src/base/address.ts';
import { MemoryFault } from '../../src/base/errors.ts';
import type { PhysicalMemory } from '../../src/base/memory.ts';
import { type ImageSource, KernelImage } from '../../src/linux/kernelImage.ts';

const text = 0xffff_8000_0800_0000n;
const notes = Uint8Array.from({ length: 36 }, (_, n) => n + 1);
/** The end of `__primary_switch` before v6.0: blr x8, …, br x8, and the literal pool. */
const code = new Uint32Array([0xd503201f, 0xd63f0100, 0xd503201f, 0xd61f0100, 0xd65f03c0]);
const symbols: Readonly<Record<string, bigint>> = {
  _text: text,
  swapper_pg_dir: text + 0x138_f000n,
  tramp_pg_dir: text + 0x138_d000n,
  kimage_voffset: text + 0xef_9040n,
  __primary_switch: text + 0xbd_2484n,
  __primary_switched: text + 0x139_8f9cn,
};

const source: ImageSource = {
  machine: 'aarch64',
  buildId: 'aa'.repeat(20),
  sections: [{ name: '.notes', address: text + 0xf7_b8a8n, size: 36n, isCode: false }],
  symbolsNamed: (name) => {
    const address = symbols[name];
    return address === undefined ? [] : [{ name, kind: 'function', address, size: 20n, global: true }];
  },
  imageBytes: (address, length) => {
    if (address === text + 0xf7_b8a8n) return notes.slice(0, length);
    return address === symbols.__primary_switch ? new Uint8Array(code.buffer) : undefined;
  },
};

/** RAM of 256 MiB at `start`, zeroes but for what is put in. */
function ram(start: bigint, contents: Readonly<Record<string, Uint8Array>>): PhysicalMemory {
  return {
    read: async (address, length) => {
      if (address < start || address + BigInt(length) > start + 0x1000_0000n) {
        throw new MemoryFault('physical', address, 'there is no RAM');
      }
      const bytes = new Uint8Array(length);
      bytes.set(contents[`${address}`]?.subarray(0, length) ?? []);
      return bytes;
    },
    write: async () => assert.fail('nothing is written'),
  };
}

const image = KernelImage.of(source) as KernelImage;
const notesAt = (base: bigint): string => `${base + 0xf7_b8a8n}`;

test('an image that is entered at its first byte', async () => {
  const memory = ram(0x8000_0000n, { [notesAt(0x8000_0000n)]: notes });
  assert.equal(await image.findLoaded(Gpa(0x8000_0000n), memory), 0x8000_0000n);
  assert.equal(image.loadedBias(Gpa(0x8000_0000n)), BigInt.asUintN(64, 0x8000_0000n - text));
});

test('an image that a loader in front of it enters, and one with the text offset of old kernels', async () => {
  const qemu = ram(0x4000_0000n, { [notesAt(0x4020_0000n)]: notes });
  assert.equal(await image.findLoaded(Gpa(0x4000_0000n), qemu), 0x4020_0000n);
  const old = ram(0x4000_0000n, { [notesAt(0x4008_0000n)]: notes });
  assert.equal(await image.findLoaded(Gpa(0x4000_0000n), old), 0x4008_0000n);
});

test('another build, or no kernel at all, is not found', async () => {
  const memory = ram(0x8000_0000n, { [notesAt(0x8000_0000n)]: notes.with(20, 0xff) });
  assert.equal(await image.findLoaded(Gpa(0x8000_0000n), memory), undefined);
  assert.equal(await image.findRunning(0x8138_f000n, memory), undefined);
});

test('a running kernel is found by its page tables, those of the exception trampoline too', async () => {
  const memory = ram(0x8000_0000n, { [notesAt(0x8000_0000n)]: notes });
  assert.equal(await image.findRunning(0x8138_f000n, memory), 0x8000_0000n);
  assert.equal(await image.findRunning(0x002a_0000_8138_d001n, memory), 0x8000_0000n, 'with an ASID and CnP');
  assert.equal(await image.findRunning(0x8138_c000n, memory), undefined);
  const large = ram(0x8000_0000n, { [notesAt(0x8000_1000n)]: notes });
  assert.equal(await image.findRunning(0x8139_1e00n, large), 0x8000_1000n, 'into the table');
});

test('the MMU tells whether the kernel is loaded or runs', async () => {
  const memory = ram(0x8000_0000n, { [notesAt(0x8000_0000n)]: notes });
  const registers = { pc: 0x8000_0000n, sctlr_el1: 0n, ttbr1_el1: 0n };
  assert.equal(await image.find(registers, memory), 0x8000_0000n);
  assert.equal(await image.find({ ...registers, sctlr_el1: 1n }, memory), undefined);
  assert.equal(await image.find({ pc: 0n, sctlr_el1: 1n, ttbr1_el1: 0x8138_f000n }, memory), 0x8000_0000n);
});

test('the tables of user space and those of the kernel', () => {
  assert.deepEqual(image.tables(Gpa(0x8000_0000n)), { trampoline: 0x8138_d000n, own: 0x8138_f000n });
});

test('the bias is what kimage_voffset says, once the kernel has set it', async () => {
  const base = Gpa(0x8000_0000n);
  assert.equal(await image.bias(base, ram(0x8000_0000n, {})), undefined);
  const offset = new Uint8Array(new BigUint64Array([text + 0x1234_0000n - base]).buffer);
  const memory = ram(0x8000_0000n, { [`${base + 0xef_9040n}`]: offset });
  assert.equal(await image.bias(base, memory), 0x1234_0000n);
});

test('the branches to the virtual addresses, and the registers that hold them', () => {
  const start = symbols.__primary_switch ?? 0n;
  assert.deepEqual(image.departures(), [
    { address: start + 4n, register: 'x8' },
    { address: start + 12n, register: 'x8' },
  ]);
  assert.equal(image.arrival, symbols.__primary_switched);
});

test('the build-id of another kernel in front of its page tables, not that of its vDSO', async () => {
  const note = (id: number): Uint8Array =>
    Buffer.concat([Buffer.from('040000001400000003000000474e5500', 'hex'), new Uint8Array(20).fill(id)]);
  const running = { pc: 0n, sctlr_el1: 1n, ttbr1_el1: 0x8018_0000n };
  const all = new Uint8Array(0x30_0000);
  all.set(Buffer.from('\x7fELF'), 0x3000);
  all.set(note(0xaa), 0x3200);
  all.set(note(0xbb), 0x10_0000 - 8); // across two windows
  const memory: PhysicalMemory = {
    read: async (address, length) => {
      const start = Number(address - 0x8000_0000n);
      if (start < 0 || start + length > all.length) throw new MemoryFault('physical', address, 'there is no RAM');
      return all.slice(start, start + length);
    },
    write: async () => assert.fail('nothing is written'),
  };
  assert.equal(await image.otherBuild(running, memory), 'bb'.repeat(20));
  all.set(note(0xaa), 0x10_0000 + 64);
  assert.equal(await image.otherBuild(running, memory), undefined, 'it is this very kernel');
  all.fill(0, 0x10_0000 + 64, 0x10_0000 + 128);
  const loaded = { pc: 0x8000_0000n, sctlr_el1: 0n, ttbr1_el1: 0n };
  assert.equal(await image.otherBuild(loaded, memory), undefined, 'no image is loaded');
  // The header of an Image behind the loader's code, which ends in front of another note.
  const header = new DataView(all.buffer, 0x20_0000, 64);
  header.setUint32(56, 0x644d5241, true);
  header.setBigUint64(16, 0x9_0000n, true);
  all.set(note(0xdd), 0x28_0000);
  all.set(note(0xee), 0x29_0000);
  assert.equal(await image.otherBuild(loaded, memory), 'dd'.repeat(20));
  all.fill(0, 0x20_0000, 0x20_0040);
  all.fill(0, 0x28_0000, 0x29_0040);
  all.set(note(0xcc), 0x4000);
  assert.equal(await image.otherBuild(running, memory), undefined, 'there are two');
});

test('symbols that are no kernel of arm64, or have no notes, say nothing', () => {
  assert.equal(KernelImage.of({ ...source, machine: 'x86_64' }), undefined);
  assert.equal(KernelImage.of({ ...source, sections: [] }), undefined);
  assert.equal(KernelImage.of({ ...source, symbolsNamed: () => [] }), undefined);
});
