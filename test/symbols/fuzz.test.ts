// Damaged files of all kinds: every question ends in an answer or in an error about the input that names a section and an
// offset, after bounded work and in bounded memory. The damage is the same in every run.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { FormatError, UserError } from '../../src/base/errors.ts';
import { SymbolFile } from '../../src/symbols/image.ts';
import { at, buildKernel } from '../support/dwarfKernel.ts';
import { buildSample, code } from '../support/dwarfSample.ts';
import { locate, type Names, questions } from '../support/questions.ts';
import { countWork, within } from '../support/readerWork.ts';
import { buildModule } from '../support/relocatableKernel.ts';

const kernelNames: Names = {
  addresses: [at(0x10), at(0x1a), at(0x64)],
  functions: ['start_kernel', 'get_page', 'entry'],
  variables: [],
  structs: [],
  enumerators: [],
  lines: [['init/main.c', 13]],
};

const sampleNames: Names = {
  addresses: [code + 0x11n, code + 0x19n, code + 0x48n, code + 0x1010n],
  functions: ['start_here', 'tiny', 'other'],
  variables: ['root', 'counter'],
  structs: ['node', 'far_away'],
  enumerators: ['RUNNING'],
  lines: [
    ['a.c', 5],
    ['h.h', 7],
  ],
};

const images: readonly (readonly [name: string, image: Uint8Array, names: Names])[] = [
  ['sample', buildSample(), sampleNames],
  ['kernel', buildKernel(), kernelNames],
  ['kernel of DWARF 4', buildKernel({ version: 4, aranges: false, optimised: false }), kernelNames],
  ['module', buildModule(), { ...kernelNames, addresses: [0x100_1010n, 0x100_101an, 0x100_1064n] }],
];

countWork();

/** The largest that whole images of these sizes (a few KiB) need for one question is some thousand. */
const operationLimit = 300_000;
const heapLimit = 192 << 20;

const folder = mkdtempSync(join(tmpdir(), 'kvm-debug-test-'));
after(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'image');

const isAboutInput = (error: unknown): boolean => {
  // Files that are not what the reader is for have a sentence; all else has a place.
  return error instanceof FormatError ? Number.isFinite(error.offset) && error.offset >= 0 : error instanceof UserError;
};

const memory = (): number => {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
};

/** How many questions were answered. */
const exercise = async (image: Uint8Array, names: Names, damage: string): Promise<number> => {
  writeFileSync(path, image);
  const before = memory();
  let answered = 0;
  let file: SymbolFile | undefined;
  const attempt = (action: () => void): void => {
    try {
      within(operationLimit, action);
      answered++;
    } catch (error) {
      assert.ok(isAboutInput(error), `${damage}: ${error instanceof Error ? error.stack : String(error)}`);
    }
  };
  attempt(() => {
    file = SymbolFile.open(path, { cacheFolder: join(folder, 'cache'), debugFolders: [] });
  });
  if (file === undefined) return 0;
  const opened = file;
  for (const question of questions(names)) attempt(() => question(opened));
  for (const address of names.addresses) {
    await locate(opened, address, (error) => {
      assert.ok(isAboutInput(error), `${damage}: ${error instanceof Error ? error.stack : String(error)}`);
    });
  }
  opened.close();
  const growth = memory() - before;
  assert.ok(growth < heapLimit, `${damage}: ${growth >> 20} MiB more in use`);
  return answered;
};

/** xorshift32. */
const random = (seed: number): ((below: number) => number) => {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
};

interface Section {
  readonly name: string;
  readonly headerAt: number;
  readonly offset: number;
  readonly size: number;
}

const sectionsOf = (image: Uint8Array): Section[] => {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const headers = Number(view.getBigUint64(40, true));
  const count = view.getUint16(60, true);
  const raw = Array.from({ length: count }, (_, index) => {
    const headerAt = headers + 64 * index;
    const offset = Number(view.getBigUint64(headerAt + 24, true));
    return {
      headerAt,
      offset,
      size: Number(view.getBigUint64(headerAt + 32, true)),
      name: view.getUint32(headerAt, true),
    };
  });
  const names = raw[view.getUint16(62, true)]?.offset ?? 0;
  return raw.slice(1).map((section) => {
    const start = names + section.name;
    return { ...section, name: Buffer.from(image.subarray(start, image.indexOf(0, start))).toString() };
  });
};

for (const [name, image, names] of images) {
  test(`${name}: whole, every question is answered`, async () => {
    assert.equal(await exercise(image, names, 'none'), questions(names).length + 1);
  });

  test(`${name}: truncated at each section and around it`, async () => {
    for (const { name: section, offset, size } of sectionsOf(image)) {
      for (const length of [offset, offset + 1, offset + (size >> 1), offset + size - 1, offset + size]) {
        await exercise(image.subarray(0, Math.max(0, length)), names, `truncated at ${length}, ${section}`);
      }
    }
  });

  test(`${name}: each section shorter than it was, empty, or without bytes`, async () => {
    for (const { name: section, headerAt, size } of sectionsOf(image)) {
      for (const length of new Set([0, 1, 3, 4, 11, 12, size >> 1, size - 9, size - 1])) {
        if (length < 0 || length > size) continue;
        const damaged = image.slice();
        new DataView(damaged.buffer).setBigUint64(headerAt + 32, BigInt(length), true);
        await exercise(damaged, names, `${section} of ${length} bytes`);
      }
      const gone = image.slice();
      new DataView(gone.buffer).setUint32(headerAt + 4, 8, true); // SHT_NOBITS
      await exercise(gone, names, `${section} without bytes`);
    }
  });

  test(`${name}: absurd numbers everywhere in the debug information`, async () => {
    const values = [0xffff_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0];
    for (const { name: section, offset, size } of sectionsOf(image)) {
      if (!/^\.(z?debug|eh_frame|rela)/.test(section)) continue;
      // The heads of sections have their lengths; beyond, every third place will do.
      for (let position = offset; position + 4 <= offset + size; position += position - offset < 24 ? 1 : 3) {
        const damaged = image.slice();
        const value = values[(position - offset) % values.length] ?? 0;
        new DataView(damaged.buffer).setUint32(position, value, true);
        await exercise(damaged, names, `0x${value.toString(16)} at ${section}+0x${(position - offset).toString(16)}`);
      }
    }
  });

  test(`${name}: flipped bytes anywhere`, async () => {
    const next = random(0x1234_5678);
    const interesting = [0, 1, 0x7f, 0x80, 0xff, 0xfe, 0x40];
    const places = sectionsOf(image).filter(({ size }) => size > 0);
    for (let round = 0; round < 400; round++) {
      const damaged = image.slice();
      for (let count = 1 + next(4); count > 0; count--) {
        // Sections alike, whatever their sizes; sometimes the headers.
        const section = places[next(places.length)];
        const start = section === undefined || next(8) === 0 ? next(image.length) : section.offset + next(section.size);
        const value = next(3) === 0 ? next(256) : (interesting[next(interesting.length)] ?? 0);
        damaged.fill(value, start, start + (next(4) === 0 ? 4 : 1));
      }
      await exercise(damaged, names, `round ${round}`);
    }
  });
}
