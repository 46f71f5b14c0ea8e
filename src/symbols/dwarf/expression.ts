// The stack machine of DWARF expressions (DWARF 5, 2.5 and 2.6).

import { Cursor } from '../../base/bytes.ts';
import { DW_AT, DW_ATE } from './constants.ts';
import type { Die, Dies } from './dies.ts';
import type { FrameAccess, Location, Piece } from './location.ts';
import { DW_OP } from './operations.ts';
import type { Unit } from './unit.ts';

/** What an expression is evaluated in. */
export interface ExpressionContext {
  readonly dies: Dies;
  readonly unit: Unit;
  readonly frame: FrameAccess;
  /** DW_AT_frame_base of the function (3.3.5). */
  frameBase(): Promise<bigint | undefined>;
  /** The value a register had, or an expression came to, when the function was entered (2.5.1.7). */
  entryValue(expression: Uint8Array): Promise<bigint | undefined>;
  /** The value of a parameter of the call that led here (DW_OP_GNU_parameter_ref). */
  parameterValue(die: Die): Promise<bigint | undefined>;
  /** What another entry's location expression is (DW_OP_call*). */
  expressionOf(die: Die): Uint8Array | undefined;
  /** Of the object whose member's location is computed (DW_OP_push_object_address). */
  readonly objectAddress: bigint | undefined;
}

/** Expressions of compilers take a few dozen steps; loops without end and towers of calls are cut. */
const stepLimit = 10_000;
const stackLimit = 1024;
const callLimit = 16;

/** A base type as the machine needs it: undefined is the generic type, an integer of the size of an address. */
interface OperandType {
  readonly size: number;
  readonly signed: boolean;
  readonly float: boolean;
}

interface Operand {
  /** The bits, as an unsigned number. */
  readonly bits: bigint;
  readonly type: OperandType | undefined;
}

/** Something the frame does not know: the location is `none` for this reason. */
class Unknown extends Error {}

/** Where an object is. An empty expression means that it was optimised out (2.6.1.1.4). */
export async function evaluateLocation(expression: Uint8Array, context: ExpressionContext): Promise<Location> {
  if (expression.length === 0) return { kind: 'none', why: 'optimised out' };
  try {
    return await new Machine(context).location(expression);
  } catch (error) {
    if (error instanceof Unknown) return { kind: 'none', why: error.message };
    throw error;
  }
}

/** The number an expression computes; undefined when something it needs is not known. */
export async function evaluateNumber(
  expression: Uint8Array,
  context: ExpressionContext,
  initial: readonly bigint[] = [],
): Promise<bigint | undefined> {
  try {
    return await new Machine(context).number(expression, initial);
  } catch (error) {
    if (error instanceof Unknown) return undefined;
    throw error;
  }
}

class Machine {
  readonly #stack: Operand[] = [];
  readonly #pieces: Piece[] = [];
  /** Set by the operations that describe a place which is no memory. */
  #place: Location | undefined;
  #steps = 0;
  #calls = 0;
  readonly #where: string;
  readonly #generic: number;

  constructor(private readonly context: ExpressionContext) {
    this.#where = context.dies.units.info.name;
    this.#generic = 8 * context.unit.addressSize;
  }

  async location(expression: Uint8Array): Promise<Location> {
    await this.#run(this.#cursor(expression));
    if (this.#pieces.length > 0) return { kind: 'pieces', pieces: this.#pieces };
    return this.#takePlace();
  }

  async number(expression: Uint8Array, initial: readonly bigint[]): Promise<bigint> {
    for (const each of initial) this.#push(each);
    const cursor = this.#cursor(expression);
    await this.#run(cursor);
    const place = this.#place;
    // A register where a value is wanted means its content (a call site's parameter, a frame base).
    if (place?.kind === 'register') return this.#register(place.number);
    if (place?.kind === 'value') return place.bytes.reduceRight((all, byte) => (all << 8n) | BigInt(byte), 0n);
    if (place !== undefined) throw new Unknown('it has no value here');
    return this.#pop(cursor).bits;
  }

  #cursor(expression: Uint8Array): Cursor {
    return new Cursor(expression, `an expression in ${this.#where}`);
  }

  #takePlace(): Location {
    const place = this.#place;
    this.#place = undefined;
    if (place !== undefined) return place;
    const top = this.#stack.pop();
    if (top === undefined) return { kind: 'none', why: 'optimised out' };
    return { kind: 'memory', address: top.bits };
  }

  async #run(cursor: Cursor): Promise<void> {
    while (!cursor.atEnd) {
      if (++this.#steps > stepLimit) cursor.fail(`more than ${stepLimit} steps`);
      if (this.#stack.length > stackLimit) cursor.fail(`more than ${stackLimit} operands`);
      const at = cursor.position;
      const operation = cursor.u8();
      if (operation >= DW_OP.lit0 && operation < DW_OP.reg0) this.#push(BigInt(operation - DW_OP.lit0));
      else if (operation >= DW_OP.reg0 && operation < DW_OP.breg0) {
        this.#place = { kind: 'register', number: operation - DW_OP.reg0 };
      } else if (operation >= DW_OP.breg0 && operation < DW_OP.regx) {
        this.#push(this.#register(operation - DW_OP.breg0) + BigInt(cursor.sleb()));
      } else if (!this.#constant(cursor, operation) && !this.#arithmetic(cursor, operation)) {
        await this.#special(cursor, operation, at);
      }
    }
  }

  /** 2.5.1.1 and 2.5.1.3: literals, and the stack. */
  #constant(cursor: Cursor, operation: number): boolean {
    const { dies, unit, frame } = this.context;
    const { sections } = dies.units;
    switch (operation) {
      case DW_OP.addr:
        this.#push(cursor.unsigned(unit.addressSize) + frame.bias);
        return true;
      case DW_OP.addrx:
      case DW_OP.gnuAddrIndex:
        this.#push(sections.address(unit.addrBase, cursor.uleb(), unit) + frame.bias);
        return true;
      case DW_OP.constx:
      case DW_OP.gnuConstIndex:
        this.#push(sections.address(unit.addrBase, cursor.uleb(), unit));
        return true;
      case DW_OP.const1u:
      case DW_OP.const2u:
      case DW_OP.const4u:
      case DW_OP.const8u:
        this.#push(cursor.unsigned(1 << ((operation - DW_OP.const1u) >> 1)));
        return true;
      case DW_OP.const1s:
      case DW_OP.const2s:
      case DW_OP.const4s:
      case DW_OP.const8s: {
        const size = 1 << ((operation - DW_OP.const1s) >> 1);
        this.#push(BigInt.asIntN(8 * size, cursor.unsigned(size)));
        return true;
      }
      case DW_OP.constu:
        this.#push(cursor.ulebBig());
        return true;
      case DW_OP.consts:
        this.#push(cursor.slebBig());
        return true;
      case DW_OP.dup:
        this.#stack.push(this.#peek(cursor, 0));
        return true;
      case DW_OP.drop:
        this.#pop(cursor);
        return true;
      case DW_OP.over:
        this.#stack.push(this.#peek(cursor, 1));
        return true;
      case DW_OP.pick:
        this.#stack.push(this.#peek(cursor, cursor.u8()));
        return true;
      case DW_OP.swap: {
        const [top, second] = [this.#pop(cursor), this.#pop(cursor)];
        this.#stack.push(top, second);
        return true;
      }
      case DW_OP.rot: {
        const [top, second, third] = [this.#pop(cursor), this.#pop(cursor), this.#pop(cursor)];
        this.#stack.push(top, third, second);
        return true;
      }
      case DW_OP.nop:
      case DW_OP.gnuUninit: // the variable may not be initialised yet: its place is known all the same
        return true;
      default:
        return false;
    }
  }

  /** 2.5.1.4 and 2.5.1.5. */
  #arithmetic(cursor: Cursor, operation: number): boolean {
    switch (operation) {
      case DW_OP.abs:
      case DW_OP.neg:
      case DW_OP.not: {
        const { bits, type } = this.#pop(cursor);
        const signed = this.#signed(bits, type);
        const result = operation === DW_OP.not ? ~bits : operation === DW_OP.neg || signed < 0n ? -signed : signed;
        this.#push(result, type);
        return true;
      }
      case DW_OP.plusUconst: {
        const { bits, type } = this.#pop(cursor);
        this.#push(bits + cursor.ulebBig(), type);
        return true;
      }
      case DW_OP.bra: {
        const to = cursor.i16();
        if (this.#pop(cursor).bits !== 0n) this.#jump(cursor, to);
        return true;
      }
      case DW_OP.skip:
        this.#jump(cursor, cursor.i16());
        return true;
      default:
        return operation >= DW_OP.and && operation <= DW_OP.ne && this.#binary(cursor, operation);
    }
  }

  #binary(cursor: Cursor, operation: number): boolean {
    const right = this.#pop(cursor);
    const left = this.#pop(cursor);
    const { type } = left;
    if (type?.float === true || right.type?.float === true) throw new Unknown('it is computed in floating point');
    const [a, b] = [left.bits, right.bits];
    // The generic type has no sign; comparisons and division of it are signed all the same (2.5.1.4, 2.5.1.5).
    const [sa, sb] = [this.#signed(a, type), this.#signed(b, right.type)];
    const result = this.#compute(cursor, operation, a, b, sa, sb, type);
    if (result === undefined) return false;
    this.#push(result, operation >= DW_OP.eq && operation <= DW_OP.ne ? undefined : type);
    return true;
  }

  #compute(
    cursor: Cursor,
    operation: number,
    a: bigint,
    b: bigint,
    sa: bigint,
    sb: bigint,
    type: OperandType | undefined,
  ): bigint | undefined {
    const truth = (yes: boolean): bigint => (yes ? 1n : 0n);
    const width = BigInt(type === undefined ? this.#generic : 8 * type.size);
    switch (operation) {
      case DW_OP.and:
        return a & b;
      case DW_OP.or:
        return a | b;
      case DW_OP.xor:
        return a ^ b;
      case DW_OP.plus:
        return a + b;
      case DW_OP.minus:
        return a - b;
      case DW_OP.mul:
        return a * b;
      case DW_OP.div:
        if (b === 0n) cursor.fail('a division by zero');
        return type === undefined || type.signed ? sa / sb : a / b;
      case DW_OP.mod:
        if (b === 0n) cursor.fail('a division by zero');
        return type?.signed === true ? sa % sb : a % b;
      case DW_OP.shl:
        return b >= width ? 0n : a << b;
      case DW_OP.shr:
        return b >= width ? 0n : a >> b;
      case DW_OP.shra:
        return sa >> (b >= width ? width : b);
      case DW_OP.eq:
        return truth(a === b);
      case DW_OP.ne:
        return truth(a !== b);
      case DW_OP.lt:
        return truth(sa < sb);
      case DW_OP.le:
        return truth(sa <= sb);
      case DW_OP.gt:
        return truth(sa > sb);
      case DW_OP.ge:
        return truth(sa >= sb);
      default:
        return undefined;
    }
  }

  async #special(cursor: Cursor, operation: number, at: number): Promise<void> {
    const { context } = this;
    switch (operation) {
      case DW_OP.regx:
        this.#place = { kind: 'register', number: cursor.uleb() };
        return;
      case DW_OP.bregx: {
        const base = this.#register(cursor.uleb());
        this.#push(base + BigInt(cursor.sleb()));
        return;
      }
      case DW_OP.fbreg: {
        const offset = BigInt(cursor.sleb());
        this.#push(known(await context.frameBase(), 'the frame base is not known') + offset);
        return;
      }
      case DW_OP.callFrameCfa:
        this.#push(known(await context.frame.cfa(), 'the frame address is not known'));
        return;
      case DW_OP.deref:
        return this.#dereference(cursor, context.unit.addressSize, undefined);
      case DW_OP.derefSize:
        return this.#dereference(cursor, cursor.u8(), undefined);
      case DW_OP.derefType:
      case DW_OP.gnuDerefType: {
        const size = cursor.u8();
        return this.#dereference(cursor, size, this.#type(cursor));
      }
      case DW_OP.pushObjectAddress:
        this.#push(known(context.objectAddress, 'its object is not known'));
        return;
      case DW_OP.piece:
        this.#addPiece(8 * cursor.uleb(), 0);
        return;
      case DW_OP.bitPiece: {
        const size = cursor.uleb();
        this.#addPiece(size, cursor.uleb());
        return;
      }
      case DW_OP.implicitValue:
        this.#place = { kind: 'value', bytes: cursor.take(cursor.uleb()).slice() };
        return;
      case DW_OP.stackValue: {
        const { bits, type } = this.#pop(cursor);
        this.#place = { kind: 'value', bytes: bytesOf(bits, type?.size ?? context.unit.addressSize) };
        return;
      }
      case DW_OP.implicitPointer:
      case DW_OP.gnuImplicitPointer: {
        const { unit } = context;
        const die = Number(cursor.unsigned(unit.version <= 2 ? unit.addressSize : unit.offsetSize));
        this.#place = { kind: 'implicitPointer', die, offset: BigInt(cursor.sleb()) };
        return;
      }
      case DW_OP.entryValue:
      case DW_OP.gnuEntryValue: {
        const value = await context.entryValue(cursor.take(cursor.uleb()));
        this.#push(known(value, 'its value on entry to the function is not known'));
        return;
      }
      case DW_OP.gnuParameterRef: {
        const die = this.context.dies.at(context.unit.offset + cursor.u32(), context.unit);
        this.#push(known(await context.parameterValue(die), 'the argument of the call is not known'));
        return;
      }
      case DW_OP.constType:
      case DW_OP.gnuConstType: {
        const type = this.#type(cursor);
        const bytes = cursor.take(cursor.u8());
        this.#push(unsigned(bytes), type);
        return;
      }
      case DW_OP.regvalType:
      case DW_OP.gnuRegvalType: {
        const value = this.#register(cursor.uleb());
        this.#push(value, this.#type(cursor));
        return;
      }
      case DW_OP.convert:
      case DW_OP.gnuConvert:
      case DW_OP.reinterpret:
      case DW_OP.gnuReinterpret:
        this.#convert(cursor, operation === DW_OP.convert || operation === DW_OP.gnuConvert);
        return;
      case DW_OP.call2:
        return this.#call(cursor, context.unit.offset + cursor.u16());
      case DW_OP.call4:
        return this.#call(cursor, context.unit.offset + cursor.u32());
      case DW_OP.callRef:
        return this.#call(cursor, Number(cursor.unsigned(context.unit.offsetSize)));
      case DW_OP.gnuVariableValue:
      case DW_OP.formTlsAddress:
      case DW_OP.gnuPushTlsAddress:
        throw new Unknown('it is thread-local');
      default:
        cursor.fail(`the operation 0x${operation.toString(16)} is not supported`, at);
    }
  }

  async #dereference(cursor: Cursor, size: number, type: OperandType | undefined): Promise<void> {
    if (size === 0 || size > 16) cursor.fail(`a value of ${size} bytes`);
    const { bits } = this.#pop(cursor);
    this.#push(unsigned(await this.context.frame.read(bits, size)), type);
  }

  /** The location expression of another entry, on this stack (2.5.1.5). */
  async #call(cursor: Cursor, offset: number): Promise<void> {
    if (++this.#calls > callLimit) cursor.fail(`more than ${callLimit} calls`);
    const expression = this.context.expressionOf(this.context.dies.at(offset, this.context.unit));
    if (expression !== undefined) await this.#run(this.#cursor(expression));
  }

  #addPiece(bitSize: number, bitOffset: number): void {
    // A piece that nothing describes was optimised out (2.6.1.2).
    this.#pieces.push({ location: this.#takePlace(), bitSize, bitOffset });
  }

  /** 2.5.1.6; a zero means the generic type. */
  #type(cursor: Cursor): OperandType | undefined {
    const offset = cursor.uleb();
    if (offset === 0) return undefined;
    const { dies, unit } = this.context;
    const die = dies.at(unit.offset + offset, unit);
    const size = Number(dies.constant(die, DW_AT.byteSize) ?? 0n);
    if (size === 0 || size > 16) cursor.fail(`a base type of ${size} bytes`);
    const encoding = Number(dies.constant(die, DW_AT.encoding) ?? 0n);
    return {
      size,
      signed: encoding === DW_ATE.signed || encoding === DW_ATE.signedChar,
      float: encoding === DW_ATE.float || encoding === DW_ATE.complexFloat,
    };
  }

  #convert(cursor: Cursor, value: boolean): void {
    const to = this.#type(cursor);
    const { bits, type } = this.#pop(cursor);
    if (value && (to?.float ?? false) !== (type?.float ?? false)) throw new Unknown('it is computed in floating point');
    this.#push(value && type?.signed === true ? this.#signed(bits, type) : bits, to);
  }

  #signed(bits: bigint, type: OperandType | undefined): bigint {
    return BigInt.asIntN(type === undefined ? this.#generic : 8 * type.size, bits);
  }

  #push(value: bigint, type?: OperandType): void {
    this.#stack.push({ bits: BigInt.asUintN(type === undefined ? this.#generic : 8 * type.size, value), type });
  }

  #pop(cursor: Cursor): Operand {
    return this.#stack.pop() ?? cursor.fail('the stack is empty');
  }

  #peek(cursor: Cursor, depth: number): Operand {
    return this.#stack.at(-1 - depth) ?? cursor.fail(`the stack has ${this.#stack.length} operands`);
  }

  #jump(cursor: Cursor, by: number): void {
    const to = cursor.position + by;
    if (to < 0 || to > cursor.bytes.length) cursor.fail(`a branch to ${to}`);
    cursor.position = to;
  }

  #register(number: number): bigint {
    return known(this.context.frame.register(number), 'its register was not saved');
  }
}

function known(value: bigint | undefined, otherwise: string): bigint {
  if (value === undefined) throw new Unknown(otherwise);
  return value;
}

const unsigned = (bytes: Uint8Array): bigint => bytes.reduceRight((all, byte) => (all << 8n) | BigInt(byte), 0n);

const bytesOf = (bits: bigint, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, index) => Number((bits >> BigInt(8 * index)) & 0xffn));
