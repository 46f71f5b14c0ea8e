// What an arm64 kernel rewrites of its own code, and by which functions: a breakpoint instruction that is not the kernel's
// own must not be there then. ftrace and kprobes read the instruction before they replace it, and refuse or, with ftrace,
// give up for good when it is none that they know.

import { instructionWord } from '../arch/aarch64/instructions.ts';
import type { RegisterValues } from '../arch/architecture.ts';
import { Gva } from '../base/address.ts';
import type { VirtualMemory } from '../base/memory.ts';
import type { SymbolFile } from '../symbols/image.ts';
import { imageTable, layoutOf } from './tables.ts';

export type PatchedSource = Pick<SymbolFile, 'machine' | 'symbolsNamed' | 'symbolAt' | 'imageBytes' | 'typeNamed'>;

/** A function of the kernel that looks at its code, or writes it. */
export interface TextPatcher {
  /** Link-time address of its first own instruction: arguments and return address are in their registers. */
  readonly address: bigint;
  /** Where in the structure that the first argument points at the address of the code is; undefined where the function
   *  may rewrite everything that `PatchedText` knows of. */
  readonly addressAt: number | undefined;
}

// For one place at a time: arch/arm64/kernel/probes/kprobes.c. arch_prepare_kprobe() also reads what is in front, in
// search of exclusive sequences.
const probing = ['arch_prepare_kprobe', 'arch_arm_kprobe', 'arch_disarm_kprobe'];
// For all places of a kind: kernel/trace/ftrace.c; kernel/jump_label.c, where compilers inline the one or the other.
const updating = ['ftrace_process_locs', 'ftrace_modify_all_code', '__jump_label_update', 'jump_label_update'];

/** How far from the address of a kprobe its preparation looks (MAX_ATOMIC_CONTEXT_SIZE, decode-insn.c, is 128 bytes). */
export const probedRange = 256n;

// Arm ARM, C6.2: NOP, and BTI with its operand in 7:6, which a function that is called through a pointer begins with.
const NOP = 0xd503_201f;
const isLandingPad = (word: number): boolean => (word & 0xffff_ff3f) >>> 0 === 0xd503_241f;
/** BTI and two NOPs (-fpatchable-function-entry=2, arch/arm64/Makefile). */
const patchableInstructions = 3;

export class PatchedText {
  #places: ReadonlySet<bigint> | undefined;

  constructor(private readonly source: PatchedSource) {}

  /** Whether the kernel replaces the instruction at a link-time address: room for ftrace at the start of a function, the
   *  branch of a static key, an alternative for CPUs that differ. */
  has(address: bigint): boolean {
    if (this.source.machine !== 'aarch64') return false;
    return this.#isRoomForTracer(address) || this.#listed().has(address);
  }

  patchers(): readonly TextPatcher[] {
    if (this.source.machine !== 'aarch64') return [];
    const addressAt = layoutOf(this.source, 'kprobe')?.offsetOf('addr');
    const found = (names: readonly string[], at: number | undefined): readonly TextPatcher[] =>
      names
        .flatMap((name) => this.source.symbolsNamed(name))
        .map((symbol) => ({ address: this.#behindRoom(symbol.address), addressAt: at }));
    return [...(addressAt === undefined ? [] : found(probing, addressAt)), ...found(updating, undefined)];
  }

  #word(address: bigint): number | undefined {
    const bytes = this.source.imageBytes(address, 4);
    return bytes && instructionWord(bytes);
  }

  #isRoomForTracer(address: bigint): boolean {
    if (this.#word(address) !== NOP) return false;
    const found = this.source.symbolAt(address);
    return found !== undefined && found.offset < BigInt(4 * patchableInstructions);
  }

  #behindRoom(start: bigint): bigint {
    let address = start;
    for (let count = 0; count < patchableInstructions; count++) {
      const word = this.#word(address);
      if (word === undefined || !(word === NOP || isLandingPad(word))) break;
      address += 4n;
    }
    return address;
  }

  #listed(): ReadonlySet<bigint> {
    this.#places ??= new Set([...this.#staticKeys(), ...this.#alternatives()]);
    return this.#places;
  }

  // struct jump_entry (include/linux/jump_label.h) with CONFIG_HAVE_ARCH_JUMP_LABEL_RELATIVE, arm64 since v4.20:
  //   0  s32 code    relative to itself
  //   4  s32 target
  //   8  long key
  #staticKeys(): readonly bigint[] {
    if (layoutOf(this.source, 'jump_entry')?.size !== 16) return [];
    return imageTable(this.source, '__start___jump_table', '__stop___jump_table', 16).map(
      ({ address, entry }) => address + BigInt(entry.getInt32(0, true)),
    );
  }

  // struct alt_instr (arch/arm64/include/asm/alternative.h):
  //   0  s32 orig_offset  relative to itself   10  u8 orig_len  bytes
  //   4  s32 alt_offset                        11  u8 alt_len
  //   8  u16 cpufeature
  #alternatives(): readonly bigint[] {
    if (layoutOf(this.source, 'alt_instr')?.size !== 12) return [];
    return imageTable(this.source, '__alt_instructions', '__alt_instructions_end', 12).flatMap(({ address, entry }) => {
      const start = address + BigInt(entry.getInt32(0, true));
      return Array.from({ length: entry.getUint8(10) / 4 }, (_, index) => start + BigInt(4 * index));
    });
  }
}

/** The code that a vCPU at the first instruction of a patcher is going to look at; undefined where it may be any of what
 *  `PatchedText` knows of. MemoryFault when its argument cannot be read. */
export async function patchedAddress(
  { addressAt }: TextPatcher,
  registers: RegisterValues,
  memory: VirtualMemory,
): Promise<Gva | undefined> {
  if (addressAt === undefined) return undefined;
  // AAPCS64 6.4.2: the first argument.
  const bytes = await memory.read(Gva((registers.get('x0') ?? 0n) + BigInt(addressAt)), 8);
  return Gva(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
}
