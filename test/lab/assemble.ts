/** The guests of guests/, in GNU assembly: programs without an operating system, each an arm64 `Image` of its own, and in
 *  linux/ programs that a kernel runs as its init. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { reportProgress } from '../../lab/cache.ts';
import { command } from '../../lab/command.ts';
import { Cpio } from '../../lab/cpio.ts';
import { staticElf, staticElfCode } from '../../lab/guest.ts';
import type { LabFiles } from '../../lab/initramfs.ts';
import { tool } from '../../lab/tools.ts';
import { ElfFile } from '../../src/symbols/elf.ts';
import { SymbolTable } from '../../src/symbols/elfSymbols.ts';

const folder = join(import.meta.dirname, 'guests');

/** For each guest NAME, `/job/guests/NAME.Image`, and for those of Linux `/job/guests/linux/NAME.cpio`, an initramfs of
 *  nothing else; with each, the offsets of its symbols in the image, or their addresses in the process, `NAME.json`. */
export async function assembledGuests(): Promise<LabFiles> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.s'));
  const made = await Promise.all(names.map(async (name) => [name.replace(/\.s$/, ''), await assemble(name)] as const));
  return Object.fromEntries(
    made.flatMap(([name, { code, symbols }]) => {
      const isLinux = name.startsWith('linux/');
      const places = Object.entries(symbols).map(([symbol, offset]) => [
        symbol,
        `${offset + (isLinux ? staticElfCode : 0n)}`,
      ]);
      return [
        [`/job/guests/${name}.${isLinux ? 'cpio' : 'Image'}`, isLinux ? initramfs(code) : code],
        [`/job/guests/${name}.json`, Buffer.from(JSON.stringify(Object.fromEntries(places)))],
      ];
    }),
  );
}

function initramfs(code: Uint8Array): Uint8Array {
  const words = new Uint32Array(code.slice().buffer);
  const archive = new Cpio().folder('/dev').characterDevice('/dev/console', 5, 1);
  return archive.file('/init', staticElf(words)).bytes();
}

interface Assembled {
  readonly code: Uint8Array;
  /** Offsets in the code. */
  readonly symbols: Readonly<Record<string, bigint>>;
}

async function assemble(name: string): Promise<Assembled> {
  const scratch = mkdtempSync(join(tmpdir(), 'kvm-debug-as-'));
  try {
    const source = join(folder, name);
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
    return symbol ? [[name, symbol.address - text.address]] : [];
  });
  return { code: bytes.read(0, bytes.size), symbols: Object.fromEntries(symbols) };
}
