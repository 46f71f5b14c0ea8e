/** Members of structs and unions, as gdb's `ptype /o` shows them. */
import { type Member, sizeOf, stripped, type Type } from '../../src/symbols/types.ts';

/** gdb shows what has a tag, or no name at all; a typedef it names. */
const isShownInFull = (type: Type): boolean =>
  type.kind === 'qualified' ? isShownInFull(type.target) : 'members' in type;

/** What has no name can be shown in full only, as elements of an array too. */
const unnamedElement = (type: Type, isElement = false): Type | undefined => {
  if (type.kind === 'array') return unnamedElement(type.element, true);
  return isElement && 'members' in type && type.name === undefined ? type : undefined;
};

/** Each member of a type as gdb's `ptype /o` shows it: aggregates in it in full, unless they are elements or targets. */
export function* layout(type: Type, offset = 0): Generator<string> {
  const real = stripped(type);
  if (!('members' in real)) return;
  const place = ({ bits, offset: inside }: Member): string => {
    if (bits === undefined) return real.kind === 'union' ? '' : `${offset + inside}`;
    const first = offset * 8 + bits.bitOffset;
    return `${Math.floor(first / 8)}: ${first % 8}`;
  };
  for (const member of real.members) {
    const name = member.name ?? '';
    const size = sizeOf(member.type) ?? 0;
    const element = unnamedElement(member.type);
    if (element !== undefined) {
      yield `${place(member)}|${size} {`;
      // Of one element, from its own start and without its size.
      yield* [...layout(element)].slice(0, -1);
      yield `} ${name}`;
    } else if (isShownInFull(member.type)) {
      yield `${place(member)}|${size} {`;
      yield* layout(member.type, offset + member.offset);
      yield `} ${name}`;
    } else yield `${place(member)}|${size} ${name}${member.bits ? ` : ${member.bits.bitSize}` : ''}`;
  }
  yield `total ${real.size}`;
}

/** gdb's answer in the notation of `layout`. */
export function* layoutOfGdb(text: string): Generator<string> {
  for (const line of text.split('\n').slice(1)) {
    const [, total] = /total size \(bytes\): +(\d+)/.exec(line) ?? [];
    const [, offset = '', size, rest = ''] = /^\/\* +(\d+(?:: \d+)?)? *\|? +(\d+) \*\/ +(.*)$/.exec(line) ?? [];
    const [, closed] = /^ +\} ?(\w*)(?:\[\d*\])*;$/.exec(line) ?? [];
    // A pointer to a function, or to an array, has its name inside.
    const inner = /\(\*+(?:const )?(\w+)(?:\[\d*\])*\)[([].*;$/.exec(rest);
    const [, name = '', bits = ''] = inner ?? /(\w+)(?:\[.*\])?( : \d+)?;$/.exec(rest) ?? [];
    if (total !== undefined) yield `total ${total}`;
    else if (closed !== undefined) yield `} ${closed}`;
    // An enumeration in braces is a scalar.
    else if (size !== undefined) yield `${offset}|${size} ${rest.endsWith('{') ? '{' : `${name}${bits}`}`;
  }
}
