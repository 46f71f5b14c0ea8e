// `kvm-debug symbols VMLINUX print NAME` of variables of real kernels, initialised ones and those of .bss: as gdb prints
// them.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { printSubcommand } from '../../src/command/print.ts';
import { gdbPrints, inCommon } from './gdbPrint.ts';
import { architectures, Kernel, linesOf, seeded } from './kernel.ts';

const variables = 300;
const sizeLimit = 4096;

/** Names of variables that stand for one object each, from all sections of data. */
async function names(kernel: Kernel): Promise<string[]> {
  const sizes = new Map<string, number>();
  for await (const line of linesOf('readelf', ['--syms', '--wide', kernel.vmlinux])) {
    const [, , size, type, , , , name = ''] = line.trim().split(/\s+/);
    if (type !== 'OBJECT' || !/^[a-z_]\w*$/i.test(name)) continue;
    sizes.set(name, sizes.has(name) ? Number.POSITIVE_INFINITY : Number(size));
  }
  const all = [...sizes].filter(([, size]) => size > 0 && size <= sizeLimit).map(([name]) => name);
  const random = seeded(1);
  const some = new Set<string>();
  while (some.size < variables) some.add(all[random(all.length)] ?? '');
  return [...some];
}

describe('variables, against gdb', () => {
  for (const architecture of architectures) {
    test(`${variables} of ${architecture}`, async () => {
      const kernel = await Kernel.of(architecture);
      const text = await kernel.answer(`gdb-print-${variables}`, async () => {
        const chosen = await names(kernel);
        const answers = await gdbPrints(kernel.vmlinux, chosen);
        return chosen.map((name, index) => `${name} = ${answers[index]}`).join('\n');
      });
      const image = kernel.open();
      const bss = image.sections.find(({ name }) => name === '.bss') ?? assert.fail('no .bss');
      const print = async (name: string): Promise<string> => {
        const [line = ''] = (await printSubcommand.run(image, [name])).text();
        return line.slice(`${name} = `.length);
      };
      let compared = 0;
      let zeros = 0;
      try {
        for (const line of text.split('\n')) {
          const [, name = '', theirs = ''] = /^(\w+) = (.*)$/.exec(line) ?? [];
          // A symbol of assembly, which has no type: gdb too prints nothing.
          if (theirs === '') continue;
          // gdb took a declaration without a length; the definition has one.
          if (/^0x[0-9a-f]+ (?:<\w+>(?: "|$))/.test(theirs) && theirs.includes(`<${name}>`)) continue;
          const [ours, gdb] = inCommon(await print(name), theirs);
          assert.equal(ours, gdb, name);
          compared++;
          const { address } = image.symbolsNamed(name)[0] ?? assert.fail(name);
          if (address >= bss.address && address < bss.address + bss.size) zeros++;
        }
      } finally {
        image.close();
      }
      assert.ok(
        compared > 0.95 * variables && zeros > 0.05 * variables,
        `${compared} compared, ${zeros} of them in .bss`,
      );
    });
  }
});
