/** Members of structs and unions, as gdb's `ptype /o` shows them. */
import { type Member, sizeOf, stripped, type Type } from '../../src/symbols/types.ts';

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
    if ('members' in stripped(member.type)) {
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
    const [, closed] = /^ +\} ?(\w*);$/.exec(line) ?? [];
    const [, name = '', bits = ''] = /(\w+)(?:\[.*\])?( : \d+)?;$/.exec(rest) ?? [];
    if (total !== undefined) yield `total ${total}`;
    else if (closed !== undefined) yield `} ${closed}`;
    // An enumeration in braces is a scalar.
    else if (size !== undefined) yield `${offset}|${size} ${rest.endsWith('{') ? '{' : `${name}${bits}`}`;
  }
}
