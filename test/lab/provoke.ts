/** Kernel modules for the nested guest whose loading goes wrong: a WARN, a BUG, breakpoint instructions as sanitizers and kgdb
 *  have them, a fault, a soft lockup. Debian's kernel has no
 *  lkdtm, and the lab no arm64 compiler; so they are written here, for the very kernel that a module of its own is for. */
import { readFileSync } from 'node:fs';
import { guestInitrd } from '../../lab/guest.ts';
import { guestModules, hostImage } from '../../lab/image.ts';
import { ElfFile } from '../../src/symbols/elf.ts';
import { ALLOC, Bytes, buildElf, EXEC, type RelocationInput, StringTable } from '../support/elfBuilder.ts';

// arch/arm64/include/asm/brk-imm.h.
const brk = (immediate: number): number => (0xd4200000 | (immediate << 5)) >>> 0;
const fail = [
  0x12800000, // mov  w0, #-1          -EPERM: it can be loaded again
  0xd65f03c0, // ret
];

/** What the init functions do. */
const provocations = {
  warn: [brk(0x800), ...fail],
  bug: [brk(0x800), ...fail],
  // This kernel is built without what handles them: unforeseen ones, for it.
  kasan: [brk(0x921), ...fail],
  ubsan: [brk(0x5502), ...fail],
  cfi: [brk(0x8041), ...fail],
  kgdb: [brk(0x401), ...fail],
  brk: [brk(0x123), ...fail],
  fault: [
    0xd2800000, // mov  x0, #0
    0xf9000000, // str  x0, [x0]
    ...fail,
  ],
  lockup: [
    0xd53be040, // mrs  x0, cntvct_el0
    0xd53be001, // mrs  x1, cntfrq_el0
    0x8b010801, // add  x1, x0, x1, lsl #2   four seconds
    0xd53be040, // again: mrs x0, cntvct_el0
    0xeb01001f, //        cmp x0, x1
    0x54ffffc3, //        b.lo again
    ...fail,
  ],
} as const;

/** BUGFLAG_WARNING (include/asm-generic/bug.h). */
const flags: Partial<Record<keyof typeof provocations, number>> = { warn: 1, bug: 0 };

/** Relocations (ELF for the Arm 64-bit Architecture, 5.7.5). */
const ABS64 = 257;
const PREL32 = 261;

/** The nested guest's initramfs with the modules along. */
export async function provokingInitrd(): Promise<Uint8Array> {
  const image = await hostImage();
  const modules = guestModules(image.modules);
  const [template] = modules;
  if (template === undefined) throw new Error(`${image.modules} has no module to take as a template`);
  return guestInitrd(readFileSync(image.busybox), modules, provokingModules(template));
}

/** Bytes of the modules by their names; `template` is the path of a module of the guest's kernel. */
function provokingModules(template: string): ReadonlyMap<string, Uint8Array> {
  const elf = new ElfFile(template);
  const bytes = readFileSync(template);
  const section = (name: string): Buffer => {
    const { offset = 0, size = 0 } = elf.section(name) ?? {};
    return bytes.subarray(offset, offset + size);
  };
  const parts = {
    vermagic: /vermagic=[^\0]*/.exec(section('.modinfo').toString('latin1'))?.[0] ?? '',
    versions: section('__versions'),
    thisModule: section('.gnu.linkonce.this_module'),
    // r_offset of the first: struct module's `init`.
    initAt: Number(section('.rela.gnu.linkonce.this_module').readBigUint64LE(0)),
  };
  elf.close();
  const kinds = Object.keys(provocations) as (keyof typeof provocations)[];
  return new Map(kinds.map((kind) => [`provoke_${kind}`, moduleOf(kind, parts)]));
}

interface Template {
  readonly vermagic: string;
  readonly versions: Uint8Array;
  readonly thisModule: Uint8Array;
  readonly initAt: number;
}

/** Offset of `name` in struct module (include/linux/module.h): `state` and `list` are in front. */
const nameAt = 24;

function moduleOf(kind: keyof typeof provocations, template: Template): Uint8Array {
  const name = `provoke_${kind}`;
  const thisModule = Buffer.from(template.thisModule);
  thisModule.fill(0, nameAt, nameAt + 56); // MODULE_NAME_LEN
  thisModule.write(name, nameAt);
  const code = new Bytes();
  for (const word of provocations[kind]) code.u32(word);
  const strings = new StringTable();
  const file = strings.add('provoke.c');
  // struct bug_entry (include/asm-generic/bug.h), CONFIG_GENERIC_BUG_RELATIVE_POINTERS and CONFIG_DEBUG_BUGVERBOSE:
  //   0  s32 bug_addr_disp   4  s32 file_disp   8  u16 line   10  u16 flags
  const flag = flags[kind];
  const bug = flag === undefined ? new Uint8Array() : new Bytes().u32(0).u32(0).u16(1).u16(flag).done();
  const relocations: Record<string, readonly RelocationInput[]> = {
    '.gnu.linkonce.this_module': [{ offset: template.initAt, type: ABS64, symbol: 0 }],
    ...(flag === undefined
      ? {}
      : {
          __bug_table: [
            { offset: 0, type: PREL32, symbol: 0 },
            { offset: 4, type: PREL32, symbol: 1, addend: BigInt(file) },
          ],
        }),
  };
  const empty = Uint8Array.of(0);
  return buildElf({
    type: 1,
    sections: [
      { name: '.text', bytes: code.done(), flags: ALLOC | EXEC },
      { name: '.rodata.str', bytes: strings.done(), flags: ALLOC },
      { name: '__bug_table', bytes: bug, flags: ALLOC | 1 },
      { name: '.gnu.linkonce.this_module', bytes: thisModule, flags: ALLOC | 1, alignment: 64 },
      // What arch/arm64/kernel/module-plts.c and module.c insist on.
      { name: '.plt', bytes: empty, flags: ALLOC | EXEC },
      { name: '.init.plt', bytes: empty, flags: ALLOC },
      { name: '.text.ftrace_trampoline', bytes: empty, flags: ALLOC | EXEC },
      {
        name: '.modinfo',
        bytes: new Bytes()
          .string('license=GPL')
          .string('depends=')
          .string(`name=${name}`)
          .string(template.vermagic)
          .done(),
        flags: ALLOC,
      },
      { name: '__versions', bytes: template.versions, flags: ALLOC },
    ],
    symbols: [
      { name: 'init_module', value: 0n, size: 4 * provocations[kind].length, section: '.text' },
      { name: '', value: 0n, type: 3, section: '.rodata.str' },
    ],
    relocations,
  });
}
