import { type Gva, hex } from '../base/address.ts';
import { MemoryFault, UserError } from '../base/errors.ts';
import type { FrameAccess, Location, Variable } from '../symbols/image.ts';
import type { Type } from '../symbols/types.ts';
import { locatedValue, memoryValue, type Value } from '../symbols/value.ts';
import type { Vcpu } from '../target/target.ts';
import type { EvaluationScope } from './evaluate.ts';
import type { StopContext } from './stopContext.ts';

/** A frame by its place in the code: `inline` counts out from the innermost function inlined into the physical `frame`, whether
 *  the user is shown that or not (`StopContext.innermost`). */
export interface FramePosition {
  readonly vcpu: Vcpu;
  readonly frame: number;
  readonly inline: number;
}

/** What a frame has by name: its variables, with their values. */
export class FrameScope implements EvaluationScope {
  readonly pointerSize = 8;
  readonly #context: StopContext;
  readonly #position: FramePosition;
  /** Run-time address that decides what is visible. */
  readonly #lookup: Gva;
  readonly access: FrameAccess;
  #variables: readonly Variable[] | undefined;

  private constructor(context: StopContext, position: FramePosition, lookup: Gva, access: FrameAccess) {
    this.#context = context;
    this.#position = position;
    this.#lookup = lookup;
    this.access = access;
  }

  static async of(context: StopContext, position: FramePosition): Promise<FrameScope> {
    const { vcpu, frame } = position;
    const found = await context.frame(vcpu, frame);
    return new FrameScope(context, position, found.lookup, context.stack(vcpu).access(found));
  }

  /** The vCPU's own, then the names that stand for some of them. */
  get registerNames(): readonly string[] {
    const { registers, architecture } = this.#context.target;
    return [...new Set([...registers.map(({ name }) => name), ...Object.keys(aliases(architecture))])];
  }

  /** Arguments, locals and statics of the function, arguments first. */
  get variables(): readonly Variable[] {
    this.#variables ??= this.#context.symbols?.variablesAt(this.#lookup, this.#position.inline) ?? [];
    return this.#variables;
  }

  /** Of the file whose code the frame is in. */
  get fileVariables(): readonly Variable[] {
    const all = this.#context.symbols?.staticsAt(this.#lookup) ?? [];
    // In a kernel's file most are of its macros (tracepoints, exports, initcalls): those that people have named come first.
    const isGenerated = ({ name }: Variable): boolean => name.startsWith('__');
    return [...all.filter((each) => !isGenerated(each)), ...all.filter(isGenerated)];
  }

  async valueOf(variable: Variable): Promise<Value> {
    const { symbols } = this.#context;
    if (symbols === undefined) throw new UserError('There are no symbols.');
    const location = await symbols.locate(variable, this.access).catch(unknownPlace);
    // A variable that only a linker script defines is declared without a place; its symbol has one.
    const address =
      location.kind === 'none' && !this.variables.includes(variable) ? this.symbolAddress(variable.name) : undefined;
    return address === undefined ? locatedValue(variable.type, location) : memoryValue(variable.type, address);
  }

  async variable(name: string, where: string | undefined): Promise<Value | undefined> {
    const { symbols } = this.#context;
    const own = where === undefined ? this.variables.find((each) => each.name === name) : undefined;
    const variable = own ?? symbols?.variableNamed(name, this.#lookup, where);
    if (variable !== undefined) return this.valueOf(variable);
    const type = where === undefined ? symbols?.functionType(name, this.#lookup) : undefined;
    const address = type && this.symbolAddress(name);
    return type === undefined || address === undefined ? undefined : memoryValue(type, address);
  }

  async locateReferenced(die: number): Promise<Location> {
    const { symbols } = this.#context;
    if (symbols === undefined) throw new UserError('There are no symbols.');
    return symbols.locateReferenced(die, this.access).catch(unknownPlace);
  }

  async register(name: string): Promise<{ readonly value: bigint; readonly bits: number }> {
    const { vcpu, frame } = this.#position;
    const description = this.#describe(name);
    const { registers } = await this.#context.frame(vcpu, frame);
    let value = registers.get(description.name);
    if (value === undefined) {
      if (frame > 0 && description.group === 'general') {
        throw new UserError(`\`${name}\` was not saved by the frames below frame ${frame}, so its value is not known.`);
      }
      value = (await this.#context.readRegisters(vcpu, [description.name])).get(description.name);
    }
    if (value === undefined) throw new UserError(`\`${name}\` cannot be read.`);
    return { value, bits: description.bits };
  }

  async writeRegister(name: string, value: bigint): Promise<void> {
    const { vcpu, frame } = this.#position;
    const description = this.#describe(name);
    if (frame > 0 && description.group === 'general') {
      throw new UserError(`Registers can be changed in the innermost frame only; frame ${frame} is a caller.`);
    }
    if (value >= 1n << BigInt(description.bits)) {
      throw new UserError(`The value is too wide for ${description.name}, which has ${description.bits} bits.`);
    }
    await this.#context.writeRegister(vcpu, description.name, value);
  }

  registerName(number: number): string | undefined {
    return this.#context.target.architecture.dwarfRegister(number);
  }

  write(address: Gva, bytes: Uint8Array): Promise<void> {
    return this.#context.memory(this.#position.vcpu).write(address, bytes);
  }

  symbolAddress(name: string): bigint | undefined {
    const found = this.#context.symbols?.named(name) ?? [];
    return (found.find((symbol) => symbol.global) ?? found[0])?.address;
  }

  describe(address: bigint): string | undefined {
    return this.#context.symbols?.describe(address);
  }

  symbolsBeginningWith(prefix: string, limit: number): readonly { readonly name: string; readonly kind: string }[] {
    return this.#context.symbols?.beginningWith(prefix, limit) ?? [];
  }

  type(tag: 'struct' | 'union' | 'enum' | undefined, name: string): Type | undefined {
    return this.#context.symbols?.typeNamed(tag, name, this.#lookup);
  }

  enumerator(name: string): { readonly type: Type; readonly value: bigint } | undefined {
    return this.#context.symbols?.enumeratorNamed(name, this.#lookup);
  }

  isType(name: string): boolean {
    const { symbols } = this.#context;
    if (this.variables.some((each) => each.name === name)) return false;
    return symbols?.typeNamed(undefined, name, this.#lookup) !== undefined;
  }

  #describe(name: string) {
    const { target } = this.#context;
    const found = target.registers.find((register) => register.name === (aliases(target.architecture)[name] ?? name));
    if (!found) throw new UserError(`The vCPU has no register \`${name}\`.`);
    return found;
  }
}

/** Where a variable is may be said in memory that cannot be read: that one has no value, the others of its frame do. */
function unknownPlace(error: unknown): Location {
  if (error instanceof MemoryFault) return { kind: 'none', why: `cannot access memory at ${hex(error.address)}` };
  throw error;
}

/** What the ranges of a value without a place are, for people: where it does have one. */
export const describeRanges = (
  ranges: readonly { readonly start: bigint; readonly end: bigint }[],
  bias: bigint,
): string =>
  ranges
    .slice(0, 3)
    .map(({ start, end }) => `${hex(start + bias)}-${hex(end + bias)}`)
    .join(', ');

/** `$fp` and `$lr` as gdb has them, from what the architecture calls its frame pointer and link register. */
function aliases({
  unwind,
  stackPointer,
  programCounter,
}: StopContext['target']['architecture']): Readonly<Record<string, string | undefined>> {
  return { fp: unwind.framePointer, lr: unwind.linkRegister, sp: stackPointer, pc: programCounter };
}
