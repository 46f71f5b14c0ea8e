import type { Architecture, RegisterValues } from '../arch/architecture.ts';
import { Gva, hex } from '../base/address.ts';
import { MemoryFault } from '../base/errors.ts';
import type { VirtualMemory } from '../base/memory.ts';
import type { FrameAccess, RegisterRule, UnwindRow } from '../symbols/image.ts';
import { interruptedContext, isExceptionEntry } from './exceptionFrames.ts';
import type { KernelSymbols } from './symbols.ts';

/** How a frame was found: the vCPU's own registers, call frame information, the frame record that the frame pointer
 *  names, the link register of a function without a frame, or the registers an exception entry saved. */
export type FrameOrigin = 'vcpu' | 'cfi' | 'frameRecord' | 'linkRegister' | 'exception';

export interface Frame {
  readonly index: number;
  readonly pc: Gva;
  /** The address whose function and line the frame is in: within the call instruction for a caller. */
  readonly lookup: Gva;
  readonly origin: FrameOrigin;
  /** The frame's registers as far as they could be recovered; all of the general ones in frame 0. */
  readonly registers: RegisterValues;
}

const depthLimit = 256;
const pointerSize = 8;

type Caller = { readonly frame: Frame } | { readonly end: string };

/** A call stack, unwound lazily. Frames are never invented: where the next one cannot be told, the stack ends and
 *  `end` says why. */
export class Stack {
  readonly #frames: Frame[] = [];
  readonly #seen = new Set<string>();
  #end: string | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly architecture: Architecture,
    private readonly symbols: KernelSymbols | undefined,
    private readonly memory: VirtualMemory,
    private readonly initial: () => Promise<RegisterValues>,
  ) {}

  /** Why there are no more frames; undefined while there may be. */
  get end(): string | undefined {
    return this.#end;
  }

  /** At least `count` frames, innermost first, or all there are. */
  frames(count: number): Promise<readonly Frame[]> {
    const result = this.#last.then(async () => {
      while (this.#frames.length < count && this.#end === undefined) await this.#advance();
      return this.#frames as readonly Frame[];
    });
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** The canonical frame address of a frame, as far as its call frame information tells. */
  async canonicalFrameAddress(frame: Frame): Promise<bigint | undefined> {
    const row = this.symbols?.unwindRow(frame.lookup);
    return row && this.#canonicalFrameAddress(frame, row);
  }

  /** A frame as expressions see it. */
  access(frame: Frame): FrameAccess {
    const cfa = () => this.canonicalFrameAddress(frame);
    return this.#access(frame, cfa, async () => {
      const caller = (await this.frames(frame.index + 2))[frame.index + 1];
      return caller && this.access(caller);
    });
  }

  async #advance(): Promise<void> {
    const inner = this.#frames.at(-1);
    if (!inner) {
      const registers = await this.initial();
      const pc = Gva(registers.get(this.architecture.programCounter) ?? 0n);
      this.#frames.push({ index: 0, pc, lookup: pc, origin: 'vcpu', registers });
      return;
    }
    if (this.#frames.length >= depthLimit) {
      this.#end = `more than ${depthLimit} frames`;
      return;
    }
    const caller = await this.#caller(inner).catch((error: unknown): Caller => {
      if (error instanceof MemoryFault) return { end: `the stack cannot be read: ${error.message}` };
      throw error;
    });
    if ('end' in caller) {
      this.#end = caller.end;
      return;
    }
    const { frame } = caller;
    const key = [this.architecture.stackPointer, this.architecture.unwind.framePointer]
      .map((name) => frame.registers.get(name))
      .concat(frame.pc)
      .join();
    if (this.#seen.has(key)) this.#end = 'the stack refers back to itself';
    else {
      this.#seen.add(key);
      this.#frames.push(frame);
    }
  }

  async #caller(inner: Frame): Promise<Caller> {
    const symbol = this.symbols?.at(inner.lookup)?.symbol.name;
    if (symbol !== undefined && isExceptionEntry(this.architecture, symbol)) return this.#interrupted(inner, symbol);
    const row = this.symbols?.unwindRow(inner.lookup);
    const cfa = row && (await this.#canonicalFrameAddress(inner, row));
    if (row && cfa !== undefined) {
      const found = await this.#fromRow(inner, row, cfa);
      if (found) return found;
    }
    return (await this.#fromLinkRegister(inner, symbol)) ?? this.#fromFrameRecord(inner);
  }

  // An exception entry has no caller; below it lies what it interrupted, whose registers it saved.
  async #interrupted(inner: Frame, symbol: string): Promise<Caller> {
    const { stackPointer, unwind } = this.architecture;
    const { registers } = inner;
    const found = await interruptedContext(
      this.memory,
      symbol,
      registers.get(stackPointer),
      registers.get(unwind.framePointer),
    );
    if (typeof found === 'string') return { end: found };
    if (found.user) this.#end = 'entered from user mode';
    return this.#at(inner, found.registers, found.registers.get(this.architecture.programCounter) ?? 0n, 'exception');
  }

  async #canonicalFrameAddress(inner: Frame, row: UnwindRow): Promise<bigint | undefined> {
    if (row.cfa.kind === 'expression') return this.#rule(inner, row.cfa.bytes, undefined);
    const base = this.#value(inner, row.cfa.register);
    if (base !== undefined) return BigInt.asUintN(64, base + row.cfa.offset);
    // A frame found by its frame record has no stack pointer. AAPCS64 6.4.6: the frame pointer addresses the record,
    // and the row says where in the frame the record's first word, the caller's frame pointer, is saved.
    const { framePointer } = this.architecture.unwind;
    const frame = inner.registers.get(framePointer);
    if (frame === undefined) return undefined;
    for (const [number, rule] of row.registers) {
      if (this.architecture.dwarfRegister(number) === framePointer && rule.kind === 'offset') {
        return BigInt.asUintN(64, frame - rule.offset);
      }
    }
    return undefined;
  }

  async #fromRow(inner: Frame, row: UnwindRow, cfa: bigint): Promise<Caller | undefined> {
    const { architecture } = this;
    const registers = new Map<string, bigint>();
    const preserved = new Set(architecture.unwind.calleeSaved ?? [architecture.unwind.framePointer]);
    for (const { name } of architecture.generalRegisters) {
      if (preserved.has(name)) copy(inner.registers, registers, name);
    }
    for (const [number, rule] of row.registers) {
      const name = architecture.dwarfRegister(number);
      if (name === undefined) continue;
      const value = await this.#apply(inner, number, rule, cfa);
      if (value === undefined) registers.delete(name);
      else registers.set(name, value);
    }
    const returnRegister = architecture.dwarfRegister(row.returnAddress);
    let returnAddress = returnRegister === undefined ? undefined : registers.get(returnRegister);
    if (returnAddress === undefined && returnRegister === architecture.unwind.linkRegister) {
      // No rule: the link register still holds it, which can be only where nothing was called since.
      if (!isExact(inner) || row.registers.has(row.returnAddress)) return undefined;
      returnAddress = inner.registers.get(returnRegister ?? '');
    }
    // x86-64 numbers the return address as a column of its own that is no register.
    const rule = row.registers.get(row.returnAddress);
    if (returnAddress === undefined && rule) returnAddress = await this.#apply(inner, row.returnAddress, rule, cfa);
    if (returnAddress === undefined) return undefined;
    registers.set(architecture.stackPointer, cfa);
    return this.#at(inner, registers, returnAddress, 'cfi');
  }

  async #apply(inner: Frame, number: number, rule: RegisterRule, cfa: bigint): Promise<bigint | undefined> {
    switch (rule.kind) {
      case 'offset':
        return this.#word(cfa + rule.offset);
      case 'valOffset':
        return BigInt.asUintN(64, cfa + rule.offset);
      case 'same':
        return this.#value(inner, number);
      case 'register':
        return this.#value(inner, rule.register);
      case 'expression': {
        const address = await this.#rule(inner, rule.bytes, cfa);
        return address === undefined ? undefined : this.#word(address);
      }
      case 'valExpression':
        return this.#rule(inner, rule.bytes, cfa);
      case 'undefined':
        return undefined;
    }
  }

  // The expression of the frame address itself has none to start from (6.4.2.2), those of registers have it on the stack
  // (6.4.2.3).
  async #rule(inner: Frame, expression: Uint8Array, cfa: bigint | undefined): Promise<bigint | undefined> {
    // The caller is what is being looked for.
    const frame = this.#access(
      inner,
      async () => cfa,
      async () => undefined,
    );
    return this.symbols?.frameRule(expression, frame, cfa === undefined ? [] : [cfa]);
  }

  #access(frame: Frame, cfa: FrameAccess['cfa'], caller: FrameAccess['caller']): FrameAccess {
    const bias = this.symbols?.bias ?? 0n;
    return {
      pc: BigInt.asUintN(64, frame.lookup - bias),
      bias,
      register: (number) => this.#value(frame, number),
      cfa,
      read: (address, length) => this.memory.read(Gva(address), length),
      caller,
    };
  }

  // A function without call frame information (assembly) that has not set up a frame: its caller is in the link
  // register, and the frame pointer still names the caller's record. If the record holds the link register's value,
  // the frame is set up; if the link register points into the function itself, it called something since.
  async #fromLinkRegister(inner: Frame, symbol: string | undefined): Promise<Caller | undefined> {
    const { linkRegister, framePointer } = this.architecture.unwind;
    if (linkRegister === undefined || !isExact(inner) || !this.symbols) return undefined;
    const link = this.#code(inner, inner.registers.get(linkRegister) ?? 0n);
    const caller = this.symbols.at(link - 1n)?.symbol;
    if (!caller || caller.kind === 'object' || caller.name === symbol) return undefined;
    const frame = inner.registers.get(framePointer);
    if (frame !== undefined && frame !== 0n) {
      const saved = await this.#word(frame + 8n).catch(() => undefined);
      if (saved !== undefined && this.#code(inner, saved) === link) return undefined;
    }
    const registers = new Map<string, bigint>();
    for (const name of this.architecture.unwind.calleeSaved ?? [framePointer]) {
      copy(inner.registers, registers, name);
    }
    return this.#at(inner, registers, link, 'linkRegister');
  }

  // The frame record {caller's frame pointer, return address} (AAPCS64 6.4.6; the same on x86-64 with rbp).
  async #fromFrameRecord(inner: Frame): Promise<Caller> {
    const { framePointer } = this.architecture.unwind;
    const frame = inner.registers.get(framePointer);
    if (frame === undefined) return { end: 'the frame pointer is not known' };
    if (frame === 0n) return { end: 'outermost frame' };
    if (frame % BigInt(pointerSize) !== 0n) return { end: `the frame pointer ${hex(frame)} is not aligned` };
    const caller = await this.#word(frame);
    const returnAddress = await this.#word(frame + 8n);
    if (caller === 0n && returnAddress === 0n) return this.#fromEmptyRecord(inner, frame);
    return this.#at(inner, new Map([[framePointer, caller]]), returnAddress, 'frameRecord');
  }

  // The kernel ends its stacks with an empty record (arch/arm64/kernel/entry.S, head.S), which can also be the one at
  // the end of saved registers.
  async #fromEmptyRecord(inner: Frame, record: bigint): Promise<Caller> {
    const end = { end: 'outermost frame' };
    if (this.architecture.name !== 'aarch64') return end;
    const stack = inner.registers.get(this.architecture.stackPointer);
    const found = await interruptedContext(this.memory, 'an exception entry', stack, record);
    if (typeof found === 'string') return end;
    if (found.user) this.#end = 'entered from user mode';
    return this.#at(inner, found.registers, found.registers.get(this.architecture.programCounter) ?? 0n, 'exception');
  }

  #at(inner: Frame, registers: RegisterValues, address: bigint, origin: FrameOrigin): Caller {
    const pc = origin === 'exception' ? Gva(address) : this.#code(inner, address);
    if (pc === 0n) return { end: 'outermost frame' };
    const all = new Map(registers).set(this.architecture.programCounter, pc);
    // A return address is behind the call, which may be the last instruction of the function.
    const lookup = origin === 'exception' ? pc : Gva(pc - 1n);
    return { frame: { index: inner.index + 1, pc, lookup, origin, registers: all } };
  }

  #code(inner: Frame, address: bigint): Gva {
    // Frame 0 holds the vCPU's whole state; only its registers say how addresses are signed.
    return this.architecture.codeAddress(address, this.#frames[0]?.registers ?? inner.registers);
  }

  #value(frame: Frame, number: number): bigint | undefined {
    const name = this.architecture.dwarfRegister(number);
    return name === undefined ? undefined : frame.registers.get(name);
  }

  async #word(address: bigint): Promise<bigint> {
    const bytes = await this.memory.read(Gva(address), pointerSize);
    return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  }
}

/** Whether the frame's registers are those at its pc, rather than those after a call returns to it. */
const isExact = (frame: Frame): boolean => frame.origin === 'vcpu' || frame.origin === 'exception';

function copy(from: RegisterValues, to: Map<string, bigint>, name: string): void {
  const value = from.get(name);
  if (value !== undefined) to.set(name, value);
}
