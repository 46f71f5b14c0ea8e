/** Operations of DWARF expressions (DWARF 5, 7.7.1; the GNU ones: https://gcc.gnu.org/wiki/DWARF4 and binutils' dwarf2.def). */
export const DW_OP = {
  addr: 0x03,
  deref: 0x06,
  const1u: 0x08,
  const1s: 0x09,
  const2u: 0x0a,
  const2s: 0x0b,
  const4u: 0x0c,
  const4s: 0x0d,
  const8u: 0x0e,
  const8s: 0x0f,
  constu: 0x10,
  consts: 0x11,
  dup: 0x12,
  drop: 0x13,
  over: 0x14,
  pick: 0x15,
  swap: 0x16,
  rot: 0x17,
  xderef: 0x18,
  abs: 0x19,
  and: 0x1a,
  div: 0x1b,
  minus: 0x1c,
  mod: 0x1d,
  mul: 0x1e,
  neg: 0x1f,
  not: 0x20,
  or: 0x21,
  plus: 0x22,
  plusUconst: 0x23,
  shl: 0x24,
  shr: 0x25,
  shra: 0x26,
  xor: 0x27,
  bra: 0x28,
  eq: 0x29,
  ge: 0x2a,
  gt: 0x2b,
  le: 0x2c,
  lt: 0x2d,
  ne: 0x2e,
  skip: 0x2f,
  /** lit0 to lit31. */
  lit0: 0x30,
  /** reg0 to reg31. */
  reg0: 0x50,
  /** breg0 to breg31. */
  breg0: 0x70,
  regx: 0x90,
  fbreg: 0x91,
  bregx: 0x92,
  piece: 0x93,
  derefSize: 0x94,
  xderefSize: 0x95,
  nop: 0x96,
  pushObjectAddress: 0x97,
  call2: 0x98,
  call4: 0x99,
  callRef: 0x9a,
  formTlsAddress: 0x9b,
  callFrameCfa: 0x9c,
  bitPiece: 0x9d,
  implicitValue: 0x9e,
  stackValue: 0x9f,
  implicitPointer: 0xa0,
  addrx: 0xa1,
  constx: 0xa2,
  entryValue: 0xa3,
  constType: 0xa4,
  regvalType: 0xa5,
  derefType: 0xa6,
  xderefType: 0xa7,
  convert: 0xa8,
  reinterpret: 0xa9,
  gnuPushTlsAddress: 0xe0,
  gnuUninit: 0xf0,
  gnuImplicitPointer: 0xf2,
  gnuEntryValue: 0xf3,
  gnuConstType: 0xf4,
  gnuRegvalType: 0xf5,
  gnuDerefType: 0xf6,
  gnuConvert: 0xf7,
  gnuReinterpret: 0xf9,
  gnuParameterRef: 0xfa,
  gnuAddrIndex: 0xfb,
  gnuConstIndex: 0xfc,
  gnuVariableValue: 0xfd,
} as const;

/**
 * Whether a location description is the place of a variable of static storage: begins with an address of the program's.
 * In front of it may be empty pieces, for members that were optimised away (DWARF 5, 2.6.1.2). An address that is itself
 * the value is of what a pointer points to.
 */
export function isStaticPlace(expression: Uint8Array): boolean {
  const uleb = (at: number): number => {
    let end = at;
    while (((expression[end] ?? 0) & 0x80) !== 0) end++;
    return end + 1;
  };
  let at = 0;
  while (expression[at] === DW_OP.piece) at = uleb(at + 1);
  const operation = expression[at];
  if (operation === DW_OP.addr) {
    // The operand has the size of addresses: 8 or 4 bytes.
    return ![at + 5, at + 9].some((end) => end === expression.length - 1 && expression[end] === DW_OP.stackValue);
  }
  if (operation !== DW_OP.addrx && operation !== DW_OP.gnuAddrIndex) return false;
  return expression[uleb(at + 1)] !== DW_OP.stackValue;
}
