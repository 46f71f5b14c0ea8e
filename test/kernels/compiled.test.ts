// A program of our own, compiled by clang: DWARF 4 and 5, with and without optimisation, relocatable and linked, against
// binutils, elfutils, LLVM and gdb. Each difference belongs to a class that is named in compiledFile.ts.
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
  compareScopes,
  composites,
  globals,
  printed,
  withoutAddresses,
} from './compiledFile.ts';
import { type Compilation, compile, imageBase, link } from './compilers.ts';
import { contents } from './functionSymbols.ts';
import { architectures, linesOf } from './kernel.ts';

type Variant = Omit<Compilation, 'compiler' | 'options'>;

/** Compiles and links; paths of the relocatable and the linked file. */
async function make(variant: Variant, folder: string, options: readonly string[] = []): Promise<[string, string]> {
  mkdirSync(folder);
  const [object, program] = [join(folder, 'sample.o'), join(folder, 'sample')];
  await compile({ ...variant, compiler: 'clang', options }, object);
  await link(variant.architecture, [object], program, [`-Ttext-segment=${imageBase}`, '-e', 'entry']);
  return [object, program];
}

describe('compiled by clang', () => {
  let folder = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'kvm-debug-compiled-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const architecture of architectures) {
    for (const version of [4, 5] as const) {
      for (const optimisation of [0, 2] as const) {
        describe(`${architecture}, DWARF ${version}, -O${optimisation}`, () =>
          suite({ architecture, version, optimisation }));
      }
    }
  }

  function suite(variant: Variant): void {
    const { architecture, version, optimisation } = variant;
    let files: readonly Compiled[] = [];
    const [relocatable, linked] = [() => files[0] as Compiled, () => files[1] as Compiled];
    before(async () => {
      const place = join(folder, `${architecture}-${version}-${optimisation}`);
      const [object, program] = await make(variant, place);
      const [objectWithRanges, programWithRanges] = await make(variant, `${place}-aranges`, ['-gdwarf-aranges']);
      files = [
        new Compiled(object, objectWithRanges, architecture, await contents(object)),
        new Compiled(program, programWithRanges, architecture, await contents(program)),
      ];
    });
    after(() => {
      for (const { image } of files) image.close();
    });

    test('the forms are those of this version', async () => {
      const forms = new Set<string>();
      for await (const line of linesOf('readelf', ['--debug-dump=abbrev', relocatable().path])) {
        const [form] = /DW_FORM_\w+/.exec(line) ?? [];
        if (form !== undefined) forms.add(form.slice('DW_FORM_'.length).replace(/\d$/, ''));
      }
      const wanted = {
        strx: version === 5,
        addrx: version === 5,
        rnglistx: version === 5,
        loclistx: version === 5 && optimisation > 0,
        strp: version === 4,
      };
      assert.deepEqual(Object.fromEntries(Object.keys(wanted).map((form) => [form, forms.has(form)])), wanted);
    });

    for (const [kind, file] of Object.entries({ relocatable, linked })) {
      test(`${kind}: every row of the line program, against readelf`, async () => {
        assert.ok((await compareRows(file())) > 200);
      });
      test(`${kind}: every address of functions, against binutils, elfutils and LLVM`, async (context) => {
        for (const section of file().codeSections) {
          context.diagnostic(`${section} ${JSON.stringify(await compareAddresses(file(), section))}`);
        }
      });
      test(`${kind}: ${composites.length} structs and unions, against gdb`, async () => {
        assert.ok((await compareLayouts(file(), composites)) > 90);
      });
      test(`${kind}: breakpoints on functions, against gdb`, async (context) => {
        context.diagnostic(JSON.stringify(await compareBreakpoints(file())));
      });
    }

    test('linked: breakpoints on each line, against gdb', async (context) => {
      context.diagnostic(JSON.stringify(await compareLines(linked())));
    });

    test('linked: globals, against gdb', async () => {
      assert.ok((await comparePrints(linked())) > 40);
    });

    test('linked: arguments and locals at each row, against gdb', async (context) => {
      const count = await compareScopes(linked());
      context.diagnostic(`${count} of them`);
      assert.ok(count > 200);
    });

    test('relocatable: globals, as in the linked file but for the addresses', async () => {
      for (const name of await globals(relocatable().path)) {
        const [ours, theirs] = await Promise.all([relocatable(), linked()].map((file) => printed(file, name)));
        assert.equal(withoutAddresses(ours ?? ''), withoutAddresses(theirs ?? ''), name);
      }
    });

    test('statics of functions', async () => {
      for (const file of files) {
        assert.equal(file.image.variablesNamed('count').length, 2, 'of blocks of one function');
        assert.equal(await printed(file, 'count'), '5');
        // Nobody reads the first member: clang gives an optimised variable the place of the second only.
        const first = optimisation === 0 ? '6' : '<optimised out>';
        assert.equal(await printed(file, 'last'), `{x = ${first}, y = -6}`);
      }
    });
  }
});
