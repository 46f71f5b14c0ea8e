// `kvm-debug symbols VMLINUX print NAME` of variables of real kernels, initialised ones and those of .bss: as gdb prints
// them.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { printSubcommand } from '../../src/command/print.ts';
import { architectures, Kernel, linesOf, outputOf, seeded } from './kernel.ts';

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

/** What gdb prints, in the order of the names; empty where it refuses. */
async function gdb(kernel: Kernel, chosen: readonly string[]): Promise<string[]> {
  const commands = chosen.flatMap((name, index) => [`echo \\n#${index}\\n`, `print ${name}`, 'echo \\n#\\n']);
  const words = [
    'set width 0',
    'set print null-stop on',
    'set host-charset ASCII',
    'set target-charset ASCII',
    'set print max-depth unlimited',
    ...commands,
  ].flatMap((command) => ['-ex', command]);
  const text = await outputOf('gdb-multiarch', ['-nx', '-batch', kernel.vmlinux, ...words]);
  const answers = new Map<string, string>();
  for (const [, index = '', answer = ''] of text.matchAll(/^#(\d+)\n([\s\S]*?)\n#$/gm)) {
    answers.set(index, /^\$\d+ = (.*)$/m.exec(answer)?.[1] ?? '');
  }
  return chosen.map((_, index) => answers.get(`${index}`) ?? '');
}

/** What both print alike. gdb has the type in front of a pointer, a character behind bit fields of character types, and other
 *  names for some addresses: those of the DWARF for statics in functions (`types.seccomp`), names at address 0 of x86-64, where
 *  per-CPU variables are. It ends a string at its first NUL here, `print` leaves out the padding only. */
const common = (text: string): string =>
  text
    .replace(/^\([^()]*\) (?=0x)/, '')
    .replaceAll('<No data fields>', '')
    .replaceAll(/<error: Cannot access memory at address (0x[0-9a-f]+)>/g, '<cannot access memory at $1>')
    .replaceAll(/ <[\w.]+(?:\+\d+)?>/g, '')
    .replaceAll(/ '(?:\\?.|\\[0-7]{3})'/g, '')
    .replaceAll(/"((?:\\.|[^"\\])*)"(?:\.\.\.)?/g, (_, string: string) => `"${string.replace(/\\000.*/, '')}"`);

describe('variables, against gdb', () => {
  for (const architecture of architectures) {
    test(`${variables} of ${architecture}`, async () => {
      const kernel = await Kernel.of(architecture);
      const text = await kernel.answer(`gdb-print-${variables}`, async () => {
        const chosen = await names(kernel);
        const answers = await gdb(kernel, chosen);
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
          const ours = common(await print(name));
          const cut = ours.indexOf('…');
          // gdb counts elements that repeat as fewer, and prints more of them.
          if (cut < 0) assert.equal(ours, common(theirs), name);
          else assert.ok(common(theirs).startsWith(ours.slice(0, cut).replace(/ <repeats \d+ times>, $/, '')), name);
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
