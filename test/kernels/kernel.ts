/** Kernels that Debian built, and what programs that others wrote say about them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { labCache, reportProgress } from '../../lab/cache.ts';
import type { Architecture } from '../../lab/debian.ts';
import { type DebugFiles, kernelDebugFiles } from '../../lab/image.ts';
import { type Tool, tool } from '../../lab/tools.ts';
import { SymbolFile } from '../../src/symbols/image.ts';

export type { Architecture } from '../../lab/debian.ts';
export const architectures: readonly Architecture[] = ['arm64', 'amd64'];

/** One kernel and the questions asked about it. */
export class Kernel {
  readonly #architecture: Architecture;
  readonly #files: DebugFiles;
  readonly #buildId: string;

  private constructor(architecture: Architecture, files: DebugFiles) {
    this.#architecture = architecture;
    this.#files = files;
    const image = SymbolFile.open(files.file);
    this.#buildId = image.buildId ?? 'none';
    image.close();
  }

  /** The first call on a machine fetches the kernel's debug package. */
  static async of(architecture: Architecture): Promise<Kernel> {
    return new Kernel(architecture, await kernelDebugFiles(architecture));
  }

  get vmlinux(): string {
    return this.#files.file;
  }

  /** Path of `NAME.ko` with DWARF: see `READ_MODULES` in lab/image.ts. */
  module(name: string): string {
    return join(this.#files.otherModules, `${name}.ko`);
  }

  /** Its symbols, the index of names built; the caller closes it. */
  open(): SymbolFile {
    const image = SymbolFile.open(this.vmlinux, { cacheFolder: labCache('symbols') });
    image.names?.build();
    return image;
  }

  /**
   * What `make` returns, kept in the cache: other programs take minutes for what they answer about a kernel, and answer
   * the same each time. `key` names program and question, and changes with either.
   */
  async answer(key: string, make: () => Promise<string>): Promise<string> {
    const folder = labCache('answers', `${this.#architecture}-${this.#buildId}`);
    const path = join(folder, key);
    if (existsSync(path)) return readFileSync(path, 'utf8');
    const text = await make();
    mkdirSync(folder, { recursive: true });
    writeFileSync(`${path}.${process.pid}`, text);
    renameSync(`${path}.${process.pid}`, path);
    return text;
  }
}

/** A program's standard output, line by line, so that the gigabyte that some print is never held. It must succeed. */
export async function* linesOf(name: Tool, args: readonly string[], input = ''): AsyncGenerator<string> {
  const { argv, env } = await tool(name, reportProgress);
  const [program = '', ...words] = argv;
  const child = spawn(program, [...words, ...args], { env, stdio: ['pipe', 'pipe', 'ignore'] });
  const closed = once(child, 'close');
  // A program that ends before it has read all says so by its status.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  try {
    yield* createInterface({ input: child.stdout });
    const [code] = await closed;
    if (code !== 0) throw new Error(`${name} ${args.join(' ').slice(0, 200)} ended with ${code}`);
  } finally {
    child.kill();
  }
}

/** All of a program's standard output. */
export async function outputOf(name: Tool, args: readonly string[], input = ''): Promise<string> {
  const lines: string[] = [];
  for await (const line of linesOf(name, args, input)) lines.push(line);
  return lines.join('\n');
}

/** Numbers that are the same in each run (Numerical Recipes, "quick and dirty" generators). */
export function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** DWARF number of a general register (AADWARF64 4.1; System V psABI x86-64, figure 3.36). */
export function registerNumber(architecture: Architecture, name: string): number {
  if (architecture === 'arm64') return name === 'sp' ? 31 : Number(name.slice(1));
  const named = ['rax', 'rdx', 'rcx', 'rbx', 'rsi', 'rdi', 'rbp', 'rsp'].indexOf(name);
  return named >= 0 ? named : Number(name.slice(1));
}
