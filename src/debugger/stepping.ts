import type { Instruction, Told } from '../arch/architecture.ts';
import { Gva } from '../base/address.ts';
import { TargetError, UserError } from '../base/errors.ts';
import type { LineRow } from '../symbols/image.ts';
import type { Vcpu } from '../target/target.ts';
import { type Execution, type Movement, UnplacedWaypoint, type Waypoint } from './execution.ts';
import { wayOut } from './rowExits.ts';
import type { StopContext } from './stopContext.ts';
import type { KernelSymbols } from './symbols.ts';

export type StepKind = 'next' | 'in' | 'out';
export type Granularity = 'line' | 'instruction';

/** A step that is under way: ends with the movement that ended it. `vcpu` is where the step is complete, if it is. */
export interface StepResult {
  readonly movement: Movement;
  readonly completedOn: Vcpu | undefined;
}

export type StepPlan = (execution: Execution) => Promise<StepResult>;

// A prologue is a handful of instructions; anything longer is not one.
const prologueLimit = 64;

// A line that is still not left after that many steps of its code may be a loop that waits for another vCPU.
const stepsOfATurn = 256;

/** Prepares a step, so that what makes it impossible is known before the guest runs. `into`: the function that a step into
 *  a line is meant for; the others that the line calls are run through. */
export async function planStep(
  kind: StepKind,
  granularity: Granularity,
  context: StopContext,
  vcpu: Vcpu,
  into?: Gva,
): Promise<StepPlan> {
  if (kind === 'out') return planStepOut(context, vcpu);
  const pc = await context.pc(vcpu);
  const line = granularity === 'line' ? context.symbols?.lineAt(pc) : undefined;
  const calls = await context.innermost(vcpu);
  const stepper = (execution: Execution): Stepper => new Stepper(execution, context.symbols, vcpu, into);
  // Code without lines (assembly of other people, user space) is stepped by the instruction.
  if (!line || !context.symbols) return (execution) => stepper(execution).instruction(kind === 'next');
  // The call of an inlined function is entered where it stands.
  if (calls > 0 && kind === 'in' && into === undefined)
    return async (execution) => stepper(execution).enterInlined(calls - 1);
  const { symbols } = context;
  const place = symbols.inlinesAt(pc)[calls - 1]?.call ?? line;
  const start = { file: place.file, line: place.line, row: line, around: shown(symbols, pc, calls) };
  return (execution) => stepper(execution).line(kind, start);
}

async function planStepOut(context: StopContext, vcpu: Vcpu): Promise<StepPlan> {
  const { symbols } = context;
  const pc = await context.pc(vcpu);
  const around = symbols === undefined ? [] : shown(symbols, pc, await context.innermost(vcpu));
  if (around.length > 1) {
    const caller = around.slice(0, -1);
    return (execution) => new Stepper(execution, symbols, vcpu).outTo(caller);
  }
  if (symbols?.neverReturns(pc)) {
    const name = symbols.at(pc)?.symbol.name ?? 'This function';
    throw new UserError(`Cannot step out: ${name} never returns. Set a breakpoint where it is to stop, and continue.`);
  }
  const stack = context.stack(vcpu);
  const caller = (await stack.frames(2))[1];
  if (!caller) throw new UserError(`Cannot step out: there is no calling frame (${stack.end ?? 'unknown'}).`);
  const mark = { registers: caller.registers, program: await programOf(context, vcpu) };
  const waypoint = returnPoint(context, caller.pc, mark);
  return async (execution) => {
    const movement = await execution.run([waypoint], vcpu);
    return { movement, completedOn: movement.arrived[0] };
  };
}

/** The functions that the rest of a vCPU's line calls by name, in the order of the code. */
export async function callsOnLine(context: StopContext, vcpu: Vcpu): Promise<readonly Gva[]> {
  const { symbols } = context;
  const pc = await context.pc(vcpu);
  const row = symbols?.lineAt(pc);
  if (symbols === undefined || row === undefined) return [];
  const { architecture } = context.target;
  const code = await context.memory(vcpu).read(pc, Number(row.end - pc));
  const functions = new Set<Gva>();
  for (let offset = 0; offset < code.length; ) {
    const { length, kind, displacement } = architecture.decode(code.subarray(offset));
    if (kind === 'call' && displacement !== undefined) {
      const found = symbols.at(BigInt.asUintN(64, pc + BigInt(offset) + displacement));
      if (found) functions.add(Gva(found.symbol.address + symbols.bias));
    }
    offset += length;
  }
  return [...functions];
}

/** What tells a task's frame from others: of its registers, and its program where the kernel does not run. */
interface FrameMark {
  readonly registers: ReadonlyMap<string, bigint>;
  readonly program: bigint | undefined;
}

const told = async <Value>(what: Told<Value>, context: StopContext, vcpu: Vcpu): Promise<Value | undefined> =>
  what.of(await context.readRegisters(vcpu, what.registers));

const programOf = (context: StopContext, vcpu: Vcpu): Promise<bigint | undefined> =>
  told(context.target.architecture.addressSpace, context, vcpu);

/** Where a call returns to. Other tasks and deeper activations pass the same address with another stack pointer; the
 *  task itself may come back on another vCPU. */
function returnPoint(context: StopContext, address: Gva, { registers: expected, program }: FrameMark): Waypoint {
  const { stackPointer, unwind } = context.target.architecture;
  // The callee gives the stack pointer back as it found it (AAPCS64 6.4.5.1): it is the frame's CFA. Frames found by
  // their record only know the frame pointer, which is as unique.
  const name = expected.has(stackPointer) ? stackPointer : unwind.framePointer;
  const value = expected.get(name);
  return {
    address,
    accepts: async (now, vcpu) =>
      (value === undefined || (await now.registers(vcpu)).get(name) === value) &&
      (program === undefined || (await programOf(now, vcpu)) === program),
  };
}

/** The functions around an address, by their entries in .debug_info, from the physical one inwards to those inlined. */
const nesting = (symbols: KernelSymbols | undefined, address: bigint): readonly number[] =>
  (symbols?.inlinesAt(address) ?? []).map(({ die }) => die).reverse();

/** Those that the user sees, who stands before the innermost `calls`. */
const shown = (symbols: KernelSymbols, address: bigint, calls: number): readonly number[] =>
  nesting(symbols, address).slice(0, -calls || undefined);

/** Where a step of a line begins. */
interface LineStart {
  readonly file: string;
  readonly line: number;
  /** The code that the step begins in, which may be of another line: that of an inlined function whose call is ahead. */
  readonly row: LineRow;
  /** The functions that the user sees, from the physical one inwards. */
  readonly around: readonly number[];
}

/** A part of a step; `kind` is that of the instruction it began with, where it is known. */
interface Advance {
  readonly kind: Instruction['kind'] | undefined;
  readonly movement: Movement;
}

class Stepper {
  constructor(
    private readonly execution: Execution,
    private readonly symbols: KernelSymbols | undefined,
    private vcpu: Vcpu,
    private readonly into?: Gva,
  ) {}

  /** One instruction, or with `over` a whole call. */
  async instruction(over: boolean): Promise<StepResult> {
    const movement = over ? (await this.#advance(true)).movement : await this.execution.step(this.vcpu);
    return { movement, completedOn: this.#done(movement) ? this.vcpu : undefined };
  }

  /** The user sees an inlined function, by its number in `KernelSymbols.inlinesAt`, of which nothing is executed yet. */
  enterInlined(inline: number): StepResult {
    this.execution.context.show(this.vcpu, inline);
    return { movement: this.#here(), completedOn: this.vcpu };
  }

  /** Until another line begins, or the function returns to its caller. */
  async line(step: 'next' | 'in', start: LineStart): Promise<StepResult> {
    const { around } = start;
    const passesInlined = step === 'next' || this.into !== undefined;
    let current = start.row;
    for (let count = 1; ; count++) {
      const turn = count % stepsOfATurn === 0 ? await this.#turn(current, step === 'in') : undefined;
      const before = await this.#pc();
      const { kind, movement } = turn ?? (await this.#advance(step === 'next', current));
      if (!this.#done(movement)) return { movement, completedOn: undefined };
      if (kind === 'call' && step === 'in' && !inRow(await this.#pc(), current)) {
        const entered = await this.#enter(before);
        if (entered) return entered;
      }
      let returned = kind === 'return';
      let pc = await this.#pc();
      if (step === 'next' && kind !== 'call' && kind !== 'return' && this.#isTailCall(around, pc)) {
        const left = await this.#leave();
        if (left) return left;
        returned = true;
        pc = await this.#pc();
      }
      let row = this.symbols?.lineAt(pc);
      // Code without lines (a caller in assembly, a veneer, a tail call): its end is a return to a caller.
      while (!row) {
        // But the kernel's callers are not those of the program that it has gone back to.
        if ((await programOf(this.execution.context, this.vcpu)) !== undefined) {
          return { movement: this.#here(), completedOn: this.vcpu };
        }
        const left = await this.#leave();
        if (left) return left;
        returned = true;
        pc = await this.#pc();
        row = this.symbols?.lineAt(pc);
      }
      const calls = this.#callsAhead(around, pc);
      const call = this.symbols?.inlinesAt(pc)[calls - 1]?.call;
      if (call !== undefined) {
        if (call.line !== start.line || call.file !== start.file) return { movement, completedOn: this.vcpu };
        if (!passesInlined) return this.enterInlined(calls - 1);
      }
      if (inRow(pc, current)) continue;
      // Back in the caller, in the middle of the line that called.
      if (returned) return { movement: this.#here(), completedOn: this.vcpu };
      if (passesInlined && this.#isInlinedIn(around, pc)) {
        current = row;
        continue;
      }
      const sameLine = row.line === start.line && row.file === start.file;
      if (!sameLine && row.line !== 0 && row.isStatement && pc === row.start) {
        return { movement, completedOn: this.vcpu };
      }
      // The same line again, or another one in its middle: it begins somewhere behind; go on to its end.
      current = row;
    }
  }

  /** Until the code of the function `caller` goes on, the innermost of its `nesting`, or that has returned. */
  async outTo(caller: readonly number[]): Promise<StepResult> {
    for (let count = 1; ; count++) {
      const row = this.symbols?.lineAt(await this.#pc());
      const turn = row && count % stepsOfATurn === 0 ? await this.#turn(row, false) : undefined;
      const { movement } = turn ?? (await this.#advance(true, row && (await this.#inlinedPart(row, caller))));
      if (!this.#done(movement)) return { movement, completedOn: undefined };
      const pc = await this.#pc();
      if (!this.#isInlinedIn(caller, pc) || this.#callsAhead(caller, pc) > 0) {
        return { movement: this.#here(), completedOn: this.vcpu };
      }
    }
  }

  /** Whether a jump to an address, from the function of `around`, was a call that returns to the caller of that: it leads to
   *  where another function begins. Parts of one function that lie apart have one entry in .debug_info. */
  #isTailCall(around: readonly number[], address: Gva): boolean {
    const [physical] = nesting(this.symbols, address);
    return physical !== undefined && physical !== around[0] && this.symbols?.at(address)?.offset === 0n;
  }

  /** `KernelSymbols.callsAhead` of calls by the innermost function of `around`. */
  #callsAhead(around: readonly number[], address: bigint): number {
    const calls = this.symbols?.callsAhead(address) ?? 0;
    if (this.symbols === undefined || calls === 0) return 0;
    const seen = shown(this.symbols, address, calls);
    return seen.length === around.length && seen.every((die, index) => die === around[index]) ? calls : 0;
  }

  /** Whether an address is in code that is inlined into the innermost function of `around`. */
  #isInlinedIn(around: readonly number[], address: bigint): boolean {
    const inner = nesting(this.symbols, address);
    return around.length > 0 && inner.length > around.length && around.every((die, index) => inner[index] === die);
  }

  /** The part of a row, from the pc on, that is inlined into the innermost function of `caller`: rows may go on behind. */
  async #inlinedPart(row: LineRow, caller: readonly number[]): Promise<Pick<LineRow, 'start' | 'end'>> {
    const length = BigInt(this.execution.context.target.architecture.instructionAlignment);
    const start = await this.#pc();
    let end: bigint = start;
    while (end < row.end && this.#isInlinedIn(caller, end)) end += length;
    return { start, end };
  }

  /** Lets the other vCPUs run until this one leaves the row. Undefined where nobody knows where that is, where a step into
   *  calls would pass some, or where too few breakpoints are left. */
  async #turn(row: LineRow, into: boolean): Promise<Advance | undefined> {
    const { context } = this.execution;
    if (!inRow(await this.#pc(), row)) return undefined;
    const code = await context.memory(this.vcpu).read(Gva(row.start), Number(row.end - row.start));
    const { exits, calls } = wayOut(Gva(row.start), code, context.target.architecture);
    if (exits === undefined || (into && calls)) return undefined;
    const frame = await this.#frame();
    const waypoints = exits.map((address) => returnPoint(context, address, frame));
    try {
      const movement = await this.execution.run(waypoints, this.vcpu);
      this.#arrived(movement);
      return { kind: undefined, movement };
    } catch (error) {
      if (error instanceof UnplacedWaypoint) return undefined;
      throw error;
    }
  }

  // After a call was stepped into: stops behind the callee's prologue when it has lines, else runs back.
  async #enter(callSite: Gva): Promise<StepResult | undefined> {
    const pc = await this.#pc();
    // The first instructions may have no lines of their own: room for ftrace lies before a function's low_pc.
    const found = this.symbols?.at(pc);
    if (found && this.into !== undefined && pc - found.offset !== this.into) return this.#leave(callSite);
    const entry = found && this.symbols?.entryOf(pc - found.offset);
    const end = entry !== undefined && entry >= pc && entry <= pc + BigInt(4 * prologueLimit) ? entry : pc;
    if (!this.symbols?.lineAt(end)) return this.#leave(callSite);
    for (let count = 0; count < prologueLimit; count++) {
      const here = await this.#pc();
      if (here === end || (count > 0 && !this.#inFunction(here, found?.symbol.name))) break;
      const { movement } = await this.#advance(true, { start: here, end });
      if (!this.#done(movement)) return { movement, completedOn: undefined };
    }
    return { movement: this.#here(), completedOn: this.vcpu };
  }

  // Runs until the code we are in, which has no lines, returns. Undefined when it has and the step goes on.
  async #leave(callSite?: Gva): Promise<StepResult | undefined> {
    const { context } = this.execution;
    let waypoint: Waypoint;
    if (callSite !== undefined) waypoint = await this.#behind(callSite);
    else {
      const stack = context.stack(this.vcpu);
      const caller = (await stack.frames(2))[1];
      // Nothing to return to (user mode, the first instructions): this is as far as a line step can go.
      if (!caller) return { movement: this.#here(), completedOn: this.vcpu };
      const { program } = await this.#frame();
      waypoint = returnPoint(context, caller.pc, { registers: caller.registers, program });
    }
    const movement = await this.execution.run([waypoint], this.vcpu);
    if (!this.#arrived(movement)) return { movement, completedOn: undefined };
    return undefined;
  }

  // One instruction, or more of the code of `within` at once. A call is run through when `over`.
  async #advance(over: boolean, within?: Pick<LineRow, 'start' | 'end'>): Promise<Advance> {
    const kind = await this.#kind();
    const pc = await this.#pc();
    if (!over || kind !== 'call') {
      const end = within && inRow(pc, within) ? Gva(within.end) : undefined;
      const movement = await this.execution.step(this.vcpu, end);
      if (!this.#done(movement)) return { kind, movement };
      return { kind, movement: (await this.#handled()) ?? movement };
    }
    const waypoint = await this.#behind(pc);
    // A breakpoint there may not have been hit yet: the step leaves it all the same.
    if (this.execution.isBreakpointAt(pc)) {
      const movement = await this.execution.step(this.vcpu);
      if (!this.#done(movement) || (await this.#pc()) === waypoint.address) return { kind, movement };
    }
    const movement = await this.execution.run([waypoint], this.vcpu);
    this.#arrived(movement);
    return { kind, movement };
  }

  /** Where a step took an exception instead, runs until that has been dealt with: for an instruction to be tried again
   *  (a page that was missing), one that has done its work (WARN, a kprobe), or one whose failure is foreseen. */
  async #handled(): Promise<Movement | undefined> {
    const { context } = this.execution;
    const origin = await told(context.target.architecture.exceptionOrigin, context, this.vcpu);
    if (origin === undefined) return undefined;
    const behind = Gva(origin + BigInt(await this.#length(origin)));
    const frame = await this.#frame(); // the handler has not touched the stack yet
    const places = new Set([
      origin,
      behind,
      this.symbols?.fixupOf(origin) ?? behind,
      ...(await this.#wayOfBranch(origin)),
    ]);
    const waypoints = [...places].map((address) => returnPoint(context, address, frame));
    const movement = await this.execution.run(waypoints, this.vcpu);
    this.#arrived(movement);
    return movement;
  }

  /** Where the branch leads that the image has at an address: with a kprobe on it the kernel carries it out itself (arm64
   *  kernel/probes/simulate-insn.c). Not of one to where a register says. */
  async #wayOfBranch(address: Gva): Promise<readonly Gva[]> {
    const { context } = this.execution;
    const { architecture } = context.target;
    const code = this.symbols?.imageBytes(address, architecture.breakpointInstruction.length);
    if (code === undefined) return [];
    const { kind, displacement } = architecture.decode(code);
    if (kind === 'return') {
      const link = architecture.unwind.linkRegister;
      const value = link === undefined ? undefined : (await context.registers(this.vcpu)).get(link);
      return value === undefined ? [] : [Gva(value)];
    }
    // A call comes back behind it.
    return displacement === undefined || kind === 'call' ? [] : [Gva(address + displacement)];
  }

  /** The instruction behind the call at `address`, in the frame that is current now or was before the call. */
  async #behind(address: Gva): Promise<Waypoint> {
    const { context } = this.execution;
    const length = await this.#length(address);
    // arm64 calls leave the stack pointer alone, so it is the same before the call and at the callee's entry.
    return returnPoint(context, Gva(address + BigInt(length)), await this.#frame());
  }

  async #frame(): Promise<FrameMark> {
    const { context } = this.execution;
    const { stackPointer } = context.target.architecture;
    const stack = (await context.registers(this.vcpu)).get(stackPointer);
    const registers = new Map(stack === undefined ? [] : [[stackPointer, stack]]);
    return { registers, program: await programOf(context, this.vcpu) };
  }

  async #length(address: Gva): Promise<number> {
    return (await this.#decode(address))?.length ?? this.execution.context.target.architecture.instructionAlignment;
  }

  async #kind(): Promise<Instruction['kind'] | undefined> {
    return (await this.#decode(await this.#pc()))?.kind;
  }

  // Undefined where the code cannot be read: the step itself then shows what the CPU makes of it.
  async #decode(address: Gva): Promise<Instruction | undefined> {
    const { context } = this.execution;
    const { architecture } = context.target;
    const longest = architecture.instructionAlignment > 1 ? architecture.instructionAlignment : 15;
    try {
      return architecture.decode(await context.memory(this.vcpu).read(address, longest));
    } catch (error) {
      if (error instanceof TargetError) return { length: architecture.instructionAlignment, kind: 'other' };
      throw error;
    }
  }

  #done(movement: Movement): boolean {
    return movement.exited === undefined && movement.causes.length === 0;
  }

  // The step goes on where the task came back, which may be another vCPU.
  #arrived(movement: Movement): boolean {
    const [vcpu] = movement.arrived;
    if (vcpu !== undefined) this.vcpu = vcpu;
    return this.#done(movement) && vcpu !== undefined;
  }

  #here(): Movement {
    return { context: this.execution.context, causes: [], arrived: [this.vcpu], exited: undefined };
  }

  #pc(): Promise<Gva> {
    return this.execution.context.pc(this.vcpu);
  }

  #inFunction(address: bigint, name: string | undefined): boolean {
    return this.symbols?.at(address)?.symbol.name === name;
  }
}

const inRow = (pc: bigint, row: Pick<LineRow, 'start' | 'end'>): boolean => pc >= row.start && pc < row.end;
