/** The nested guest's initramfs: busybox, an init that obeys `guest.*` on the kernel command line, and a system-call loop. */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { appletNames } from './busybox.ts';
import { Cpio } from './cpio.ts';

/** Bytes of the nested guest's initramfs; `busybox` is a static arm64 one, `modules` are paths of kernel modules, `more`
 *  further modules by their names. */
export function guestInitrd(
  busybox: Uint8Array,
  modules: readonly string[],
  more: ReadonlyMap<string, Uint8Array> = new Map(),
): Buffer {
  const archive = new Cpio();
  for (const folder of ['/dev', '/proc', '/sys', '/tmp']) archive.folder(folder);
  // The kernel opens the console before init runs, thus before devtmpfs is mounted.
  archive.characterDevice('/dev/console', 5, 1);
  archive.file('/bin/busybox', busybox);
  for (const applet of appletNames(busybox)) archive.link(`/bin/${applet}`, 'busybox');
  archive.file('/init', readFileSync(join(import.meta.dirname, 'guest', 'init')));
  archive.file('/bin/spin', spinProgram());
  archive.file('/bin/brk', staticElf([0xd43e0000])); // brk #0xf000
  for (const path of modules) archive.file(`/modules/${basename(path)}`, readFileSync(path), 0o644);
  for (const [name, bytes] of more) archive.file(`/modules/${name}.ko`, bytes, 0o644);
  return archive.bytes();
}

/**
 * A static arm64 program that alternates user-space work and system calls for ever, small enough to be written here:
 * the lab has no arm64 compiler. x19 counts the rounds.
 */
function spinProgram(): Uint8Array {
  const instructions = [
    0xd2800013, //        mov  x19, #0
    0x91000673, // loop:  add  x19, x19, #1
    0xd2801588, //        mov  x8, #172        getpid (include/uapi/asm-generic/unistd.h)
    0xd4000001, //        svc  #0
    0xd28015a8, //        mov  x8, #173        getppid
    0xd4000001, //        svc  #0
    0xd2807d01, //        mov  x1, #1000
    0xf1000421, // work:  subs x1, x1, #1
    0x54ffffe1, //        b.ne work
    0x17fffff8, //        b    loop
  ];
  return staticElf(instructions);
}

const base = 0x400000n;
const codeOffset = 64 + 56;
/** Where the code of `staticElf` begins, in a process. */
export const staticElfCode = base + BigInt(codeOffset);

/** A minimal AArch64 executable of one readable, executable segment (ELF-64, figures 2 and 3). */
export function staticElf(instructions: ArrayLike<number> & Iterable<number>): Uint8Array {
  const size = codeOffset + instructions.length * 4;
  const image = Buffer.alloc(size);
  image.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // ELFCLASS64, little endian, EV_CURRENT
  image.writeUInt16LE(2, 16); // e_type = ET_EXEC
  image.writeUInt16LE(183, 18); // e_machine = EM_AARCH64
  image.writeUInt32LE(1, 20); // e_version
  image.writeBigUInt64LE(staticElfCode, 24); // e_entry
  image.writeBigUInt64LE(64n, 32); // e_phoff
  image.writeUInt16LE(64, 52); // e_ehsize
  image.writeUInt16LE(56, 54); // e_phentsize
  image.writeUInt16LE(1, 56); // e_phnum
  image.writeUInt32LE(1, 64); // p_type = PT_LOAD
  image.writeUInt32LE(5, 68); // p_flags = PF_R | PF_X
  image.writeBigUInt64LE(base, 80); // p_vaddr
  image.writeBigUInt64LE(base, 88); // p_paddr
  image.writeBigUInt64LE(BigInt(size), 96); // p_filesz
  image.writeBigUInt64LE(BigInt(size), 104); // p_memsz
  image.writeBigUInt64LE(0x1000n, 112); // p_align
  for (const [index, instruction] of [...instructions].entries()) {
    image.writeUInt32LE(instruction, codeOffset + index * 4);
  }
  return image;
}
