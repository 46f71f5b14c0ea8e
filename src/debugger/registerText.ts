// Registers as the user sees them. Addresses and patterns of bits stay hexadecimal, whatever the radix.
import type { Architecture, BitField, RegisterDescription } from '../arch/architecture.ts';
import { hex } from '../base/address.ts';
import type { Radix } from '../symbols/format.ts';

/** A number of more bits is an address more often than a count: kernel addresses have all of the upper ones set. */
const decimalBits = 53n;
/** Wider fields are parts of addresses (TTBR0_EL1.BADDR, VBAR_EL1.VBA). */
const decimalFieldBits = 31;

/** The radix for a register; undefined where it means nothing: system and vector registers, and those of the general ones
 *  that hold an address or are made of fields. */
export function registerRadix(
  { group, name, fields }: RegisterDescription,
  { programCounter, stackPointer, unwind }: Architecture,
  radix: Radix | undefined,
): Radix | undefined {
  const addresses = [programCounter, stackPointer, unwind.framePointer, unwind.linkRegister];
  return group === 'general' && fields === undefined && !addresses.includes(name) ? radix : undefined;
}

/** A register's value, in the radix of `registerRadix`. It can be typed as an expression. */
export const registerText = (value: bigint, radix: Radix | undefined): string =>
  radix === 'decimal' && value >> decimalBits === 0n ? `${value}` : hex(value);

export const fieldMask = ({ high, low }: BitField): bigint => (1n << BigInt(high - low + 1)) - 1n;

/** A field of a register whose whole value is given, with the name of its encoding. */
export function fieldText(field: BitField, register: bigint, radix: Radix | undefined): string {
  const value = (register >> BigInt(field.low)) & fieldMask(field);
  const isNumber = radix === 'decimal' && field.high - field.low < decimalFieldBits;
  const text = isNumber ? `${value}` : hex(value);
  const name = field.values?.[Number(value)];
  return name === undefined ? text : `${text} (${name})`;
}

/** A machine word of an expression: hexadecimal first, then the symbol it points to or the decimal number; the other way
 *  round in decimal. */
export function wordText(value: bigint, symbol: string | undefined, radix: Radix | undefined): string {
  if (symbol !== undefined) return `${hex(value)} <${symbol}>`;
  if (value >> decimalBits !== 0n || radix === 'hexadecimal') return hex(value);
  const [first, second] = radix === 'decimal' ? [`${value}`, hex(value)] : [hex(value), `${value}`];
  return value > 9n ? `${first} (${second})` : first;
}
