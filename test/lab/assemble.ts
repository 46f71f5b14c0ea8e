/** The guests of guests/: programs without an operating system in GNU assembly, each an arm64 `Image` of its own. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, parse } from 'node:path';
import { ElfFile } from '../../src/symbols/elf.ts';
import { SymbolTable } from '../../src/symbols/elfSymbols.ts';
import { reportProgress } from './cache.ts';
import { command } from './command.ts';
import type { LabFiles } from './initramfs.ts';
import { tool } from './tools.ts';

const folder = join(import.meta.dirname, 'guests');

/** For each guest, `/job/guests/NAME.Image` and the offsets of its symbols in that, `/job/guests/NAME.json`. */
export async function assembledGuests(): Promise<LabFiles> {
  const names = readdirSync(folder).map((file) => parse(file).name);
  const made = await Promise.all(names.map(async (name) => [name, await assemble(name)] as const));
  return Object.fromEntries(
    made.flatMap(([name, { image, symbols }]) => [
      [`/job/guests/${name}.Image`, image],
      [`/job/guests/${name}.json`, Buffer.from(JSON.stringify(symbols))],
    ]),
  );
}

interface Assembled {
  readonly image: Uint8Array;
  readonly symbols: Readonly<Record<string, string>>;
}

async function assemble(name: string): Promise<Assembled> {
  const scratch = mkdtempSync(join(tmpdir(), 'kvm-debug-as-'));
  try {
    const source = join(folder, `${name}.s`);
    const object = join(scratch, 'guest.o');
    const { argv, env } = await tool('aarch64-linux-gnu-as', reportProgress);
    await command([...argv, '--fatal-warnings', '-I', folder, '-o', object, source], { env });
    // Labels, and places that are set relative to where they stand.
    const labels = [...readFileSync(source, 'utf8').matchAll(/^(\w+):|\.set\s+(\w+), \./gm)];
    const elf = new ElfFile(object);
    try {
      return contents(
        elf,
        labels.flatMap(([, label, place]) => label ?? place ?? []),
      );
    } finally {
      elf.close();
    }
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** Everything is in .text, and no symbol global: then the assembler resolves all references by itself. */
function contents(elf: ElfFile, names: readonly string[]): Assembled {
  const text = elf.section('.text');
  const bytes = elf.contents('.text');
  const table = SymbolTable.of(elf);
  if (text === undefined || bytes === undefined || table === undefined) throw new Error(`${elf.path} has no code`);
  if (elf.sections.some(({ name, size }) => name.startsWith('.rela') && size > 0)) {
    throw new Error(`${elf.path} is not complete without a linker`);
  }
  const symbols = names.flatMap((name) => {
    const [symbol] = table.named(name);
    return symbol ? [[name, `${symbol.address - text.address}`]] : [];
  });
  return { image: bytes.read(0, bytes.size), symbols: Object.fromEntries(symbols) };
}
