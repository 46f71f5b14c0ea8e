/** What gdb prints of variables. */
import { outputOf } from './kernel.ts';

/** What gdb prints, in the order of the names; empty where it refuses. */
export async function gdbPrints(path: string, chosen: readonly string[]): Promise<string[]> {
  const commands = chosen.flatMap((name, index) => [`echo \\n#${index}\\n`, `print ${name}`, 'echo \\n#\\n']);
  const words = [
    'set width 0',
    'set print null-stop on',
    'set host-charset ASCII',
    'set target-charset ASCII',
    'set print max-depth unlimited',
    ...commands,
  ].flatMap((command) => ['-ex', command]);
  const text = await outputOf('gdb-multiarch', ['-nx', '-batch', path, ...words]);
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
    .replace(/^\((?:[^()]|\([^()]*\))*\) (?=0x)/, '')
    .replaceAll('<No data fields>', '')
    .replaceAll(/<error: Cannot access memory at address (0x[0-9a-f]+)>/g, '<cannot access memory at $1>')
    .replaceAll(/ <[\w.]+(?:\+\d+)?>/g, '')
    .replaceAll(/ '(?:\\?.|\\[0-7]{3})'/g, '')
    .replaceAll(/"((?:\\.|[^"\\])*)"(?:\.\.\.)?/g, (_, string: string) => `"${string.replace(/\\000.*/, '')}"`);

/** What both print alike of one value, to be equal. Where this program has cut an array short (`…`), gdb counts elements that
 *  repeat as fewer, and prints more of them. */
export const inCommon = (ours: string, theirs: string): [string, string] => {
  const [a, b] = [common(ours), common(theirs)];
  const cut = a.indexOf('…');
  if (cut < 0) return [a, b];
  const start = a.slice(0, cut).replace(/ <repeats \d+ times>, $/, '');
  return [start, b.slice(0, start.length)];
};
