// Units that clang and gcc made of one source, in one file: DWARF 4 and 5, with and without optimisation, type units, some
// without .debug_aranges, one that names the source by its whole path. Linked, it is compared with what others say;
// relocatable or compressed, with itself.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  Compiled,
  compareAddresses,
  compareBreakpoints,
  compareLayouts,
  compareLines,
  comparePrints,
  compareRows,
  composites,
  globals,
  lineCount,
  printed,
  withoutAddresses,
} from './compiledFile.ts';
import { type Compilation, compile, imageBase, link } from './compilers.ts';
import { contents } from './functionSymbols.ts';
import { layout } from './gdbLayout.ts';
import { type Architecture, architectures, linesOf } from './kernel.ts';
import { framesOf } from './symbolizers.ts';

const typeUnits = ['-fdebug-types-section'];
/** By what is put behind the names of globals, so that each unit has its own. */
const units: Readonly<Record<string, Omit<Compilation, 'architecture'>>> = {
  clang4: { compiler: 'clang', version: 4, optimisation: 2 },
  clang5: { compiler: 'clang', version: 5, optimisation: 2 },
  gcc4: { compiler: 'gcc', version: 4, optimisation: 2, options: typeUnits },
  gcc5: { compiler: 'gcc', version: 5, optimisation: 2, isWhole: true },
  clang: { compiler: 'clang', version: 5, optimisation: 0 },
  gcc: { compiler: 'gcc', version: 5, optimisation: 0, options: typeUnits },
};
const inImage = [`-Ttext-segment=${imageBase}`, '-e', 'entry_clang4'];
/** The same, linked otherwise. */
const variants: Readonly<Record<string, readonly string[]>> = {
  relocatable: ['-r'],
  'compressed by zlib': [...inImage, '--compress-debug-sections=zlib'],
  'compressed as .zdebug': [...inImage, '--compress-debug-sections=zlib-gnu'],
  'relocatable, compressed': ['-r', '--compress-debug-sections=zlib'],
};

/** Compiles all units into a folder; `more` options are clang's. */
async function makeUnits(architecture: Architecture, folder: string, more: readonly string[] = []): Promise<string[]> {
  mkdirSync(folder);
  const plain = join(folder, 'plain.o');
  await compile({ architecture, compiler: 'clang', version: 5, optimisation: 0 }, plain);
  const names = await globals(plain, ['OBJECT', 'FUNC']);
  const objects: string[] = [];
  for (const [suffix, unit] of Object.entries(units)) {
    const options = [...(unit.options ?? []), ...(unit.compiler === 'clang' ? more : [])];
    const object = join(folder, `${suffix}.o`);
    const renamed = names.map((name) => `-D${name}=${name}_${suffix}`);
    await compile({ ...unit, architecture, options: [...options, ...renamed] }, object);
    objects.push(object);
  }
  return objects;
}

/** What is compared with itself: each address by the section it is in. */
async function answersOf(file: Compiled): Promise<readonly string[]> {
  const { image, functions, path, architecture } = file;
  const placed = (address: bigint): string => {
    // An end is behind the last address that is in a section.
    const isIn = (last: bigint) =>
      image.sections.find((each) => last >= each.address && last < each.address + each.size);
    const section = isIn(address) ?? isIn(address - 1n);
    return section === undefined ? `${address}` : `${section.name}+${address - section.address}`;
  };
  const text = (value: unknown): string =>
    JSON.stringify(value, function (this: Record<string, unknown>, key, each: unknown) {
      const own = this[key];
      // Of variables that are nowhere: addresses are among its bytes. Here they are values.
      if (key === 'expression') return undefined;
      if (own instanceof Uint8Array) return own.length === 8 ? placed(Buffer.from(own).readBigUInt64LE()) : [...own];
      return typeof each === 'bigint' ? placed(each) : each;
    });
  const answers: string[] = [];
  const step = architecture === 'arm64' ? 4n : 5n;
  for (const { name, value, size, section } of functions) {
    const start = file.base(section) + value;
    answers.push(text([name, image.functionBreakpoint(name)]));
    for (let address = start; address < start + BigInt(size); address += step) {
      const frame = {
        pc: address,
        bias: 0n,
        register: (number: number) => BigInt(number + 1) << 40n,
        cfa: async () => 1n << 50n,
        read: async (_: bigint, length: number) => new Uint8Array(length).fill(0x5a),
        caller: async () => undefined,
      };
      const variables = image.variablesAt(address, 0).map(async (each) => [each.name, await image.locate(each, frame)]);
      const hex = `0x${address.toString(16)}`;
      const frames = [...(await framesOf(image, [hex])).values()];
      answers.push(text([address, frames, image.lineAt(address), await Promise.all(variables)]));
      answers.push(text(image.unwindRow(address)?.cfa));
    }
  }
  for (const file of ['sample.c', 'sample.h']) {
    for (let line = 1; line <= lineCount(file); line++) answers.push(text([file, line, image.locationsOf(file, line)]));
  }
  for (const name of await globals(path, ['OBJECT'])) {
    // Where a string is in its section is the linker's business.
    answers.push(`${name} = ${withoutAddresses(await printed(file, name))}`);
  }
  for (const [tag, name] of typesOfAll)
    answers.push(text([name, ...layout(image.typeNamed(tag, name) ?? assert.fail(name))]));
  return answers;
}

/** Types of each unit where the renaming has made them so. */
const typesOfAll = composites.flatMap((each) => {
  const [tag = '', name = ''] = each.split(' ');
  const isRenamed = !['point', 'mixed_pair', 'packed_bits', 'node'].includes(name);
  return (isRenamed ? Object.keys(units).map((suffix) => `${name}_${suffix}`) : [name]).map(
    (own) => [tag as 'struct' | 'union', own] as const,
  );
});

for (const architecture of architectures) {
  describe(`units of clang and gcc in one file, ${architecture}`, () => {
    let folder = '';
    let objects: readonly string[] = [];
    let file: Compiled;
    let wanted: readonly string[] | undefined;

    before(async () => {
      folder = mkdtempSync(join(tmpdir(), 'kvm-debug-mixed-'));
      const [linked, withRanges] = [join(folder, 'linked'), join(folder, 'ranges')];
      objects = await makeUnits(architecture, join(folder, 'units'));
      await link(architecture, objects, linked, inImage);
      const others = await makeUnits(architecture, join(folder, 'units-ranges'), ['-gdwarf-aranges']);
      await link(architecture, others, withRanges, inImage);
      file = new Compiled(linked, withRanges, architecture, await contents(linked));
    });
    after(() => {
      file.image.close();
      rmSync(folder, { recursive: true, force: true });
    });

    test('it has units of both versions, type units, and the forms of all', async () => {
      const found = new Set<string>();
      for await (const line of linesOf('readelf', ['--debug-dump=info', '--debug-dump=abbrev', file.path])) {
        const [word] = /DW_FORM_\w+|DW_UT_\w+|^Contents of the \.debug_types|Version: +\d/.exec(line) ?? [];
        if (word !== undefined) found.add(word.replace(/ +/g, ' '));
      }
      const forms = ['addrx', 'strx1', 'rnglistx', 'loclistx', 'ref_sig8', 'strp', 'line_strp', 'implicit_const'];
      const wanted = ['Version: 4', 'Version: 5', 'DW_UT_type', 'Contents of the .debug_types'];
      for (const word of [...wanted, ...forms.map((form) => `DW_FORM_${form}`)]) assert.ok(found.has(word), word);
    });

    test('every row of the line programs, against readelf', async (context) => {
      context.diagnostic(`${await compareRows(file)} rows`);
    });

    test('every address of functions, against binutils, elfutils and LLVM', async (context) => {
      for (const section of file.codeSections) {
        context.diagnostic(`${section} ${JSON.stringify(await compareAddresses(file, section))}`);
      }
    });

    test(`${typesOfAll.length} structs and unions, against gdb`, async () => {
      assert.ok(
        (await compareLayouts(
          file,
          typesOfAll.map((words) => words.join(' ')),
        )) > 400,
      );
    });

    test('breakpoints on functions, against gdb', async (context) => {
      context.diagnostic(JSON.stringify(await compareBreakpoints(file)));
    });

    test('breakpoints on each line, against gdb', async (context) => {
      context.diagnostic(JSON.stringify(await compareLines(file)));
    });

    test('globals, against gdb', async () => {
      assert.ok((await comparePrints(file)) > 250);
    });

    for (const [variant, options] of Object.entries(variants)) {
      test(`${variant}: the same in all that is asked`, async () => {
        const path = join(folder, variant.replaceAll(/\W+/g, '-'));
        await link(architecture, objects, path, options);
        const other = new Compiled(path, path, architecture, await contents(path));
        try {
          assert.equal(other.image.isRelocatable, variant.includes('relocatable'));
          wanted ??= await answersOf(file);
          const ours = await answersOf(other);
          for (const [index, answer] of wanted.entries()) assert.equal(ours[index], answer);
          assert.equal(ours.length, wanted.length);
        } finally {
          other.image.close();
        }
      });
    }
  });
}
