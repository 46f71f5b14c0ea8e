/** gdb on the same stub, for what it says of the same guest. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { reportProgress } from '../../lab/cache.ts';
import { tool } from '../../lab/tools.ts';

/** Runs commands in gdb, connected to a stub, and leaves the guest stopped. The output. */
export async function gdbSays(port: number, commands: readonly string[]): Promise<string> {
  const { argv, env } = await tool('gdb-multiarch', reportProgress);
  const [program = '', ...words] = argv;
  // `disconnect` lets the connection go without a word, where `detach` lets the guest run.
  const all = ['set architecture aarch64', `target remote 127.0.0.1:${port}`, ...commands, 'disconnect'];
  const options = ['-nx', '-batch', '-iex', 'set debuginfod enabled off', ...all.flatMap((each) => ['-ex', each])];
  const child = spawn(program, [...words, ...options], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const [status] = await once(child, 'close');
  if (status !== 0) throw new Error(`gdb ended with ${status}:\n${output}`);
  return output;
}

/** The registers in the output of `info registers`: name, hexadecimal value, and more that is not looked at. */
export function registersIn(output: string): ReadonlyMap<string, bigint> {
  return new Map(
    [...output.matchAll(/^(\w+) +(0x[0-9a-f]+)\b/gm)].map(([, name = '', value = '0']) => [name, BigInt(value)]),
  );
}
