/** Where gdb puts breakpoints on functions. */
import { outputOf } from './kernel.ts';

/** gdb's answer: `@NAME` before each command, then the table of all breakpoints. */
export async function breakOn(path: string, functions: readonly string[]): Promise<string> {
  const commands = functions.flatMap((name) => ['-ex', `echo @${name}\\n`, '-ex', `break ${name}`]);
  const options = [
    '-nx',
    '-batch',
    '-iex',
    'set debuginfod enabled off',
    '-ex',
    'set width 0',
    '-ex',
    'set confirm off',
  ];
  return outputOf('gdb-multiarch', [...options, ...commands, '-ex', 'info breakpoints', path]);
}

/** Addresses by function. */
export function placesOf(answer: string): Map<string, readonly bigint[]> {
  const nameOf = new Map<string, string>();
  const places = new Map<string, bigint[]>();
  let name = '';
  for (const line of answer.split('\n')) {
    if (line.startsWith('@')) {
      name = line.slice(1);
      places.set(name, []);
    }
    const [, set] = /^Breakpoint (\d+) at/.exec(line) ?? [];
    if (set !== undefined) nameOf.set(set, name);
    const [, number = '', address] = /^(\d+)(?:\.\d+)? .* (0x[0-9a-f]{16}) /.exec(line) ?? [];
    if (address !== undefined) places.get(nameOf.get(number) ?? '')?.push(BigInt(address));
  }
  return places;
}
