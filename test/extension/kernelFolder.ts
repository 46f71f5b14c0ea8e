/** Folders as kernel builds leave them, made in a scratch folder. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

export class KernelFolder {
  #seconds = 1_700_000_000;

  constructor(readonly path = mkdtempSync(join(tmpdir(), 'kvm-debug-kernel-'))) {}

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }

  /** Each file is newer than the one before. Returns its path. */
  write(name: string, content: string | Buffer = ''): string {
    const path = join(this.path, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    this.#seconds += 60;
    utimesSync(path, this.#seconds, this.#seconds);
    return path;
  }

  /** The beginning of a vmlinux: an ELF header with this e_machine. */
  vmlinux(name = 'vmlinux', machine = 183): string {
    const header = Buffer.alloc(64);
    header.write('\x7fELF\x02\x01\x01', 'latin1');
    header.writeUInt16LE(machine, 18);
    return this.write(name, header);
  }

  /** The headers of an ELF program: for AArch64, and for a bare machine, unless told. */
  program(name: string, { machine = 183, type = 2, interpreter = false } = {}): string {
    const headers = Buffer.alloc(64 + 56);
    headers.write('\x7fELF\x02\x01\x01', 'latin1');
    headers.writeUInt16LE(type, 16);
    headers.writeUInt16LE(machine, 18);
    headers.writeBigUInt64LE(64n, 32);
    headers.writeUInt16LE(56, 54);
    headers.writeUInt16LE(1, 56);
    headers.writeUInt32LE(interpreter ? 3 : 1, 64); // PT_INTERP, PT_LOAD
    return this.write(name, headers);
  }

  /** A complete arm64 build in a folder below. */
  build(folder = '.', config = 'CONFIG_ARM64=y\nCONFIG_DEBUG_INFO=y\n'): void {
    this.write(join(folder, '.config'), config);
    this.vmlinux(join(folder, 'vmlinux'));
    this.write(join(folder, 'arch/arm64/boot/Image'));
  }

  sources(folder = '.'): void {
    for (const name of ['Kbuild', 'Kconfig', 'Makefile']) this.write(join(folder, name));
  }

  /** A folder for $PATH with these programs in it. */
  programs(...names: string[]): string {
    for (const name of names) chmodSync(this.write(join('.bin', name)), 0o755);
    mkdirSync(join(this.path, '.bin'), { recursive: true });
    return join(this.path, '.bin');
  }
}
