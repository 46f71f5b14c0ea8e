// `type NAME`: a C type with the places of its members, as `pahole` and gdb's `ptype /o` show it.

import { UserError } from '../base/errors.ts';
import type { SymbolFile } from '../symbols/image.ts';
import { type CompositeType, declaration, type Member, sizeOf, stripped, type Type } from '../symbols/types.ts';
import type { Subcommand } from './subcommand.ts';

/** A type by its name, with or without `struct`, `union` or `enum` in front. */
export function typeByName(image: SymbolFile, text: string): Type {
  const [, tag, name = text] = /^(struct|union|enum)\s+(\w+)$/.exec(text.trim()) ?? [];
  const tags = tag === undefined ? (['struct', 'union', 'enum', undefined] as const) : ([tag as 'struct'] as const);
  for (const each of tags) {
    const type = image.typeNamed(each, name.trim());
    if (type !== undefined) return type;
  }
  throw new UserError(`There is no type \`${text}\` in ${image.path}.`);
}

/** JSON's numbers are exact up to 2^53. */
const numberOrText = (value: bigint): number | string =>
  Number.isSafeInteger(Number(value)) ? Number(value) : `${value}`;

/** Offsets are bytes from the start of the struct whose `members` it is among; `bitOffset` counts bits from there. */
interface MemberJson {
  readonly name: string | null;
  readonly type: string;
  readonly offset: number;
  readonly size: number;
  readonly bitOffset?: number;
  readonly bitSize?: number;
  readonly members?: readonly MemberJson[];
}

/** Types without a name are nested as their programmers nested them; a file may nest them without end. */
const nestingLimit = 32;

/** A struct or union without a name, whose members are shown where it is used; `isElement`: in an array, where offsets
 *  begin anew with each element, as gdb shows them. */
function unnamed(
  type: Type,
  depth: number,
  isElement = false,
): { readonly type: CompositeType; readonly isElement: boolean } | undefined {
  if (type.kind === 'array') return unnamed(type.element, depth, true);
  return 'members' in type && type.name === undefined && depth < nestingLimit ? { type, isElement } : undefined;
}

function memberJson({ name, type, offset, bits }: Member, depth: number): MemberJson {
  const nested = unnamed(type, depth);
  return {
    name: name ?? null,
    type: declaration(type),
    offset,
    size: sizeOf(type),
    ...(bits && { bitOffset: bits.bitOffset, bitSize: bits.bitSize }),
    ...(nested ? { members: nested.type.members.map((each) => memberJson(each, depth + 1)) } : {}),
  };
}

function lines(members: readonly Member[], base: number, indent: string, depth: number): string[] {
  return members.flatMap((member) => {
    const { name, type, offset, bits } = member;
    const nested = unnamed(type, depth);
    const at = `/* ${String(base + offset).padStart(6)} | ${String(sizeOf(type)).padStart(6)} */`;
    if (nested !== undefined) {
      const dimensions = declaration(type, '').slice(declaration(nested.type, '').length).trim();
      return [
        `${at}${indent}${nested.type.kind} {`,
        ...lines(nested.type.members, nested.isElement ? 0 : base + offset, `${indent}    `, depth + 1),
        `${' '.repeat(at.length)}${indent}}${name === undefined ? '' : ` ${name}`}${dimensions};`,
      ];
    }
    return [`${at}${indent}${declaration(type, name)}${bits === undefined ? '' : ` : ${bits.bitSize}`};`];
  });
}

export const typeSubcommand: Subcommand = {
  operands: 'NAME',
  summary: 'a type: its size, and its members with their offsets',
  run(image, [text = '']) {
    const type = typeByName(image, text);
    const real = stripped(type);
    const members = 'members' in real ? real.members : [];
    const name = 'name' in type && type.name !== undefined ? type.name : text;
    return {
      json: () => ({
        name,
        size: sizeOf(type),
        members: members.map((each) => memberJson(each, 0)),
        ...('members' in real ? {} : { type: declaration(real) }),
        ...(real.kind === 'enum'
          ? { enumerators: real.enumerators.map((each) => ({ name: each.name, value: numberOrText(each.value) })) }
          : {}),
      }),
      text: () => {
        if ('members' in real) {
          return [
            `/* offset |   size */  type = ${declaration(real)} {`,
            ...lines(members, 0, '    ', 0),
            `  /* total size (bytes): ${real.size} */`,
            '}',
          ];
        }
        if (real.kind === 'enum') {
          const list = real.enumerators.map((each) => `${each.name} = ${each.value}`);
          return [`type = ${declaration(real)} {${list.join(', ')}}`];
        }
        return [`type = ${declaration(real)}`];
      },
    };
  },
};
