import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { UserError } from '../../src/base/errors.ts';
import { SymbolFile } from '../../src/symbols/image.ts';
import { at, buildKernel } from '../support/dwarfKernel.ts';
import { temporaryFile } from '../support/elfBuilder.ts';

/** Asks everything; only errors about the input may come out. */
const exercise = (path: string): void => {
  const questions: ((file: SymbolFile) => unknown)[] = [
    (file) => file.symbolsNamed('start_kernel'),
    (file) => file.symbolAt(at(0x10)),
    (file) => file.lineAt(at(0x10)),
    (file) => file.lineAt(at(0x64)),
    (file) => file.locationsOf('init/main.c', 13),
    (file) => file.locationsOf('mm.h', 100),
    (file) => file.functionBreakpoint('get_page'),
    (file) => file.functionBreakpoint('start_kernel'),
    (file) => file.unwindRow(at(0x10)),
    (file) => file.imageBytes(at(0), 16),
    (file) => file.files(),
  ];
  let file: SymbolFile;
  try {
    file = SymbolFile.open(path);
  } catch (error) {
    assert.ok(error instanceof UserError, String((error as Error).stack));
    return;
  }
  for (const question of questions) {
    try {
      question(file);
    } catch (error) {
      assert.ok(error instanceof UserError, String((error as Error).stack));
    }
  }
  file.close();
};

/** xorshift32: the same damage in every run. */
const random = (seed: number): (() => number) => {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
};

for (const options of [{}, { version: 4, aranges: false, optimised: false }] as const) {
  const image = buildKernel(options);

  test(`truncated anywhere ${JSON.stringify(options)}`, (context) => {
    const path = temporaryFile(context, image);
    for (let length = 0; length < image.length; length += 7) {
      writeFileSync(path, image.subarray(0, length));
      exercise(path);
    }
  });

  test(`damaged anywhere ${JSON.stringify(options)}`, { timeout: 120_000 }, (context) => {
    const path = temporaryFile(context, image);
    const next = random(0x1234567);
    const interesting = [0, 1, 0x7f, 0x80, 0xff, 0xfe, 0x40];
    for (let round = 0; round < 1500; round++) {
      const damaged = image.slice();
      for (let count = 1 + (next() % 3); count > 0; count--) {
        const value = next() % 3 === 0 ? next() : (interesting[next() % interesting.length] ?? 0);
        const start = next() % image.length;
        // One byte, or a whole field.
        damaged.fill(value, start, start + (next() % 4 === 0 ? 4 : 1));
      }
      writeFileSync(path, damaged);
      exercise(path);
    }
  });
}
