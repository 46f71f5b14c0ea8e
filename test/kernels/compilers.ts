/** sample.c, compiled and linked by Debian's compilers for either architecture. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Architecture, outputOf } from './kernel.ts';

const machines = { arm64: 'aarch64', amd64: 'x86_64' } as const;
/** Where kernels are. */
export const imageBase = '0xffffffff81000000';

export interface Compilation {
  readonly architecture: Architecture;
  readonly compiler: 'clang' | 'gcc';
  readonly version: 4 | 5;
  readonly optimisation: 0 | 2;
  readonly options?: readonly string[];
  /** For gcc: the source is named by its whole path. */
  readonly isWhole?: boolean;
}

/** Makes a relocatable file at `object`. */
export async function compile(
  { architecture, compiler, version, optimisation, options = [], isWhole = false }: Compilation,
  object: string,
): Promise<void> {
  const words = [
    // Nothing but the compiler is there: no headers, of a system or its own.
    ...['-nostdinc', '-ffreestanding', '-fno-pic', '-Wall', '-Werror'],
    ...(architecture === 'amd64' ? ['-mcmodel=kernel', '-mno-red-zone'] : []),
    ...[`-gdwarf-${version}`, `-O${optimisation}`, ...options],
    ...['-c', '-o', object],
  ];
  const machine = `${machines[architecture]}-linux-gnu` as const;
  const folder = import.meta.dirname;
  // gcc does not run where the source is. Of these options the last that fits is used.
  const moves = isWhole ? [] : [`${process.cwd()}=${folder}`, `${folder}=.`];
  const places = moves.map((move) => `-fdebug-prefix-map=${move}`);
  if (compiler === 'gcc') await outputOf(`${machine}-gcc`, [...places, ...words, join(folder, 'sample.c')]);
  else {
    await outputOf('clang', [`--target=${machine}`, `-working-directory=${folder}`, ...words, 'sample.c']);
    nameAsUpstream(object);
  }
}

/** gdb takes a compiler for clang, whose rows say where prologues end, when DW_AT_producer begins with `clang ` (producer.c,
 *  producer_is_llvm): Debian's begins with `Debian clang `. */
function nameAsUpstream(object: string): void {
  const bytes = readFileSync(object);
  const [name, version] = /Debian (clang version [^\0]*)/.exec(bytes.toString('latin1')) ?? [];
  if (name === undefined || version === undefined) return;
  bytes.write(version.padEnd(name.length), bytes.indexOf(name), 'latin1');
  writeFileSync(object, bytes);
}

/** Links relocatable files. */
export async function link(
  architecture: Architecture,
  objects: readonly string[],
  output: string,
  options: readonly string[],
): Promise<void> {
  await outputOf(`${machines[architecture]}-linux-gnu-ld`, [...options, ...objects, '-o', output]);
}
