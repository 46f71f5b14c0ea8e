// Call frame instructions (DWARF 5, 6.4.2 and 7.24; GNU extensions; AADWARF64 4.4.5).

import { Cursor } from '../../base/bytes.ts';
import type { Cie } from './cfi.ts';
import type { CfaRule, RegisterRule, UnwindRow } from './unwindRow.ts';

// Primary opcodes, in the top two bits; the operand is in the other six.
//   0x40 advance_loc   0x80 offset   0xc0 restore
// Extended opcodes:
const DW_CFA = {
  nop: 0x00,
  setLoc: 0x01,
  advanceLoc1: 0x02,
  advanceLoc2: 0x03,
  advanceLoc4: 0x04,
  offsetExtended: 0x05,
  restoreExtended: 0x06,
  undefined: 0x07,
  sameValue: 0x08,
  register: 0x09,
  rememberState: 0x0a,
  restoreState: 0x0b,
  defCfa: 0x0c,
  defCfaRegister: 0x0d,
  defCfaOffset: 0x0e,
  defCfaExpression: 0x0f,
  expression: 0x10,
  offsetExtendedSf: 0x11,
  defCfaSf: 0x12,
  defCfaOffsetSf: 0x13,
  valOffset: 0x14,
  valOffsetSf: 0x15,
  valExpression: 0x16,
  /** Also DW_CFA_GNU_window_save, of SPARC. */
  aarch64NegateRaState: 0x2d,
  gnuArgsSize: 0x2e,
  gnuNegativeOffsetExtended: 0x2f,
} as const;

/** More than any compiler nests; a program of rememberState only would need memory without end. */
const stateLimit = 1024;

interface State {
  cfa: CfaRule | undefined;
  registers: Map<number, RegisterRule>;
  signed: boolean;
}

const copyOf = (state: State): State => ({ ...state, registers: new Map(state.registers) });

/** Runs the CIE's and the FDE's instructions up to `address`, which is in the function at `range`. */
export const runCfaProgram = (
  cie: Cie,
  instructions: Cursor,
  range: { readonly start: bigint; readonly size: number },
  address: bigint,
): UnwindRow => {
  const end = range.start + BigInt(range.size);
  const machine = new CfaMachine(cie, range.start);
  const initial = new Cursor(cie.instructions.bytes, cie.instructions.where, cie.instructions.base);
  machine.run(initial, end);
  machine.saveInitial();
  machine.location = range.start;
  const next = machine.run(instructions, address);
  const { state } = machine;
  if (state.cfa === undefined) return instructions.fail('no rule for the canonical frame address');
  return {
    start: machine.location,
    end: next !== undefined && next < end ? next : end,
    cfa: state.cfa,
    registers: state.registers,
    returnAddress: cie.returnAddress,
    signalFrame: cie.signalFrame,
    returnAddressSigned: state.signed,
  };
};

class CfaMachine {
  state: State = { cfa: undefined, registers: new Map(), signed: false };
  #initial: State = this.state;
  readonly #saved: State[] = [];

  constructor(
    readonly cie: Cie,
    public location: bigint,
  ) {}

  /** What DW_CFA_restore goes back to: the state after the CIE's instructions. */
  saveInitial(): void {
    this.#initial = copyOf(this.state);
  }

  /** Runs until the location passes `until`; returns the location that did, undefined at the end of the program. */
  run(cursor: Cursor, until: bigint): bigint | undefined {
    while (!cursor.atEnd) {
      const next = this.#step(cursor);
      if (next === undefined) continue;
      if (next > until) return next;
      this.location = next;
    }
    return undefined;
  }

  /** One instruction. Returns the new location of those that set it. */
  #step(cursor: Cursor): bigint | undefined {
    const opcode = cursor.u8();
    const operand = opcode & 0x3f;
    switch (opcode & 0xc0) {
      case 0x40:
        return this.#advanced(operand);
      case 0x80:
        this.#setOffset(operand, this.#factored(cursor.uleb()));
        return undefined;
      case 0xc0:
        this.#restore(operand);
        return undefined;
    }
    switch (opcode) {
      case DW_CFA.setLoc:
        return cursor.unsigned(this.cie.addressSize);
      case DW_CFA.advanceLoc1:
        return this.#advanced(cursor.u8());
      case DW_CFA.advanceLoc2:
        return this.#advanced(cursor.u16());
      case DW_CFA.advanceLoc4:
        return this.#advanced(cursor.u32());
      default:
        this.#define(cursor, opcode);
        return undefined;
    }
  }

  #define(cursor: Cursor, opcode: number): void {
    const { state } = this;
    switch (opcode) {
      case DW_CFA.nop:
        break;
      case DW_CFA.offsetExtended:
        this.#setOffset(cursor.uleb(), this.#factored(cursor.uleb()));
        break;
      case DW_CFA.offsetExtendedSf:
        this.#setOffset(cursor.uleb(), this.#factored(cursor.sleb()));
        break;
      case DW_CFA.gnuNegativeOffsetExtended:
        this.#setOffset(cursor.uleb(), -this.#factored(cursor.uleb()));
        break;
      case DW_CFA.restoreExtended:
        this.#restore(cursor.uleb());
        break;
      case DW_CFA.undefined:
        state.registers.set(cursor.uleb(), { kind: 'undefined' });
        break;
      case DW_CFA.sameValue:
        state.registers.set(cursor.uleb(), { kind: 'same' });
        break;
      case DW_CFA.register:
        state.registers.set(cursor.uleb(), { kind: 'register', register: cursor.uleb() });
        break;
      case DW_CFA.valOffset:
        state.registers.set(cursor.uleb(), { kind: 'valOffset', offset: this.#factored(cursor.uleb()) });
        break;
      case DW_CFA.valOffsetSf:
        state.registers.set(cursor.uleb(), { kind: 'valOffset', offset: this.#factored(cursor.sleb()) });
        break;
      case DW_CFA.expression:
        state.registers.set(cursor.uleb(), { kind: 'expression', bytes: cursor.take(cursor.uleb()) });
        break;
      case DW_CFA.valExpression:
        state.registers.set(cursor.uleb(), { kind: 'valExpression', bytes: cursor.take(cursor.uleb()) });
        break;
      case DW_CFA.rememberState:
        if (this.#saved.length === stateLimit) cursor.fail(`more than ${stateLimit} remembered states`);
        this.#saved.push(copyOf(state));
        break;
      case DW_CFA.restoreState:
        this.state = this.#saved.pop() ?? cursor.fail('no remembered state');
        break;
      case DW_CFA.defCfa:
        state.cfa = { kind: 'register', register: cursor.uleb(), offset: BigInt(cursor.uleb()) };
        break;
      case DW_CFA.defCfaSf:
        state.cfa = { kind: 'register', register: cursor.uleb(), offset: this.#factored(cursor.sleb()) };
        break;
      case DW_CFA.defCfaRegister:
        state.cfa = { ...this.#registerRule(cursor), register: cursor.uleb() };
        break;
      case DW_CFA.defCfaOffset:
        state.cfa = { ...this.#registerRule(cursor), offset: BigInt(cursor.uleb()) };
        break;
      case DW_CFA.defCfaOffsetSf:
        state.cfa = { ...this.#registerRule(cursor), offset: this.#factored(cursor.sleb()) };
        break;
      case DW_CFA.defCfaExpression:
        state.cfa = { kind: 'expression', bytes: cursor.take(cursor.uleb()) };
        break;
      case DW_CFA.aarch64NegateRaState:
        state.signed = !state.signed;
        break;
      case DW_CFA.gnuArgsSize:
        cursor.skipLeb(); // matters to exception handlers only
        break;
      default:
        cursor.fail(`the call frame instruction 0x${opcode.toString(16)} is unknown`, cursor.position - 1);
    }
  }

  #advanced(delta: number): bigint {
    return this.location + BigInt(delta) * BigInt(this.cie.codeAlignment);
  }
  #factored(offset: number): bigint {
    return BigInt(offset) * BigInt(this.cie.dataAlignment);
  }
  #setOffset(register: number, offset: bigint): void {
    this.state.registers.set(register, { kind: 'offset', offset });
  }

  #restore(register: number): void {
    const rule = this.#initial.registers.get(register);
    if (rule === undefined) this.state.registers.delete(register);
    else this.state.registers.set(register, rule);
  }

  /** These instructions change half of a register rule and are invalid without one (6.4.2.2). */
  #registerRule(cursor: Cursor): CfaRule & { kind: 'register' } {
    const { cfa } = this.state;
    return cfa?.kind === 'register' ? cfa : cursor.fail('the canonical frame address is not register + offset');
  }
}
