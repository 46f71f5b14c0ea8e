// Debugging information entries as trees, for tests: abbreviations are declared and references resolved on the way.

import { Bytes, type SectionInput, StringTable } from './elfBuilder.ts';

export type Attribute =
  | readonly [name: number, form: 'udata' | 'sdata' | 'data1' | 'data4' | 'data8' | 'addr' | 'secOffset', value: number | bigint]
  | readonly [name: number, form: 'string' | 'strp', value: string]
  /** A label among the operations is the 4 bytes of its entry's offset in .debug_info. */
  | readonly [name: number, form: 'exprloc' | 'block1', value: readonly (number | string)[]]
  /** To the entry of that label. */
  | readonly [name: number, form: 'ref4' | 'refAddr', label: string]
  | readonly [name: number, form: 'refSig8', signature: bigint]
  | readonly [name: number, form: 'flagPresent']; // biome-ignore format: one form a line

export interface Entry {
  readonly tag: number;
  readonly label?: string;
  readonly attributes: readonly Attribute[];
  readonly children?: readonly Entry[];
}

const forms = {
  addr: 0x01, data4: 0x06, data8: 0x07, string: 0x08, block1: 0x0a, data1: 0x0b, sdata: 0x0d, strp: 0x0e, udata: 0x0f,
  refAddr: 0x10, ref4: 0x13, secOffset: 0x17, exprloc: 0x18, flagPresent: 0x19, refSig8: 0x20,
} as const; // biome-ignore format: a table

export const entry = (tag: number, ...rest: (Attribute | Entry | string)[]): Entry => {
  const isEntry = (part: Attribute | Entry | string): part is Entry => typeof part === 'object' && 'tag' in part;
  const children = rest.filter(isEntry);
  const label = rest.find((part) => typeof part === 'string');
  return {
    tag,
    ...(label === undefined ? {} : { label }),
    attributes: rest.filter((part): part is Attribute => Array.isArray(part)),
    ...(children.length === 0 ? {} : { children }),
  };
};

export interface TypeUnitInput {
  readonly signature: bigint;
  /** Label of the type in it. */
  readonly type: string;
}

/** Units of one image. Labels are of all units, for `refAddr`; `ref4` stays in its unit. */
export class DieBuilder {
  readonly #info = new Bytes();
  readonly #types = new Bytes();
  readonly #abbrev = new Bytes();
  readonly #codes = new Map<string, number>();
  readonly #strings = new StringTable();
  readonly #labels = new Map<string, number>();
  readonly #fixes: { readonly at: number; readonly label: string; readonly base: number }[] = [];

  constructor(readonly addressSize: 4 | 8 = 8) {}

  /** Appends a unit. Type units of version 4 go to .debug_types, and may not refer to other units. */
  unit(version: 4 | 5, root: Entry, typeUnit?: TypeUnitInput): void {
    const body = new Bytes();
    const isOldType = version === 4 && typeUnit !== undefined;
    const start = (isOldType ? this.#types : this.#info).length;
    const fixes: { readonly at: number; readonly label: string; readonly base: number }[] = [];
    const labels = new Map<string, number>();
    body.u16(version);
    if (version === 5) body.u8(typeUnit === undefined ? 1 : 2, this.addressSize).u32(0);
    else body.u32(0).u8(this.addressSize);
    const typeAt = body.length + 8;
    if (typeUnit !== undefined) body.u64(typeUnit.signature).u32(0);
    this.#write(body, root, (label, unit) => fixes.push({ at: body.length, label, base: unit ? start : 0 }), (label) =>
      labels.set(label, start + 4 + body.length),
    ); // biome-ignore format: two callbacks
    const bytes = body.done();
    const view = new DataView(bytes.buffer);
    if (typeUnit !== undefined) view.setUint32(typeAt, (labels.get(typeUnit.type) ?? 0) - start, true);
    for (const { at, label, base } of fixes) {
      const target = labels.get(label);
      if (target !== undefined) view.setUint32(at, target - base, true);
      else this.#fixes.push({ at: start + 4 + at, label, base });
    }
    if (!isOldType) for (const [label, offset] of labels) this.#labels.set(label, offset);
    (isOldType ? this.#types : this.#info).u32(bytes.length).bytes(bytes);
  }

  sections(): SectionInput[] {
    const info = this.#info.done();
    const view = new DataView(info.buffer);
    for (const { at, label, base } of this.#fixes) {
      const target = this.#labels.get(label);
      if (target === undefined) throw new Error(`no entry is labelled ${label}`);
      view.setUint32(at, target - base, true);
    }
    const sections = [
      { name: '.debug_info', bytes: info },
      { name: '.debug_abbrev', bytes: new Bytes().bytes(this.#abbrev.done()).u8(0).done() },
      { name: '.debug_str', bytes: this.#strings.done() },
    ];
    if (this.#types.length > 0) sections.push({ name: '.debug_types', bytes: this.#types.done() });
    return sections;
  }

  #write(
    bytes: Bytes,
    { tag, label, attributes, children }: Entry,
    refer: (label: string, unit: boolean) => void,
    define: (label: string) => void,
  ): void {
    if (label !== undefined) define(label);
    bytes.uleb(this.#code(tag, attributes, children !== undefined));
    for (const [, form, value] of attributes) {
      switch (form) {
        case 'udata':
          bytes.uleb(value);
          break;
        case 'sdata':
          bytes.sleb(value);
          break;
        case 'data1':
          bytes.u8(Number(value));
          break;
        case 'data4':
        case 'secOffset':
          bytes.u32(Number(value));
          break;
        case 'data8':
        case 'refSig8':
          bytes.u64(value);
          break;
        case 'addr':
          if (this.addressSize === 8) bytes.u64(value);
          else bytes.u32(Number(value));
          break;
        case 'string':
          bytes.string(value);
          break;
        case 'strp':
          bytes.u32(this.#strings.add(value));
          break;
        case 'exprloc':
        case 'block1':
          bytes.uleb(value.reduce<number>((length, part) => length + (typeof part === 'number' ? 1 : 4), 0));
          for (const part of value) {
            if (typeof part === 'number') bytes.u8(part);
            else {
              refer(part, false);
              bytes.u32(0);
            }
          }
          break;
        case 'ref4':
        case 'refAddr':
          refer(value, form === 'ref4');
          bytes.u32(0);
          break;
        case 'flagPresent':
          break;
      }
    }
    if (children === undefined) return;
    for (const child of children) this.#write(bytes, child, refer, define);
    bytes.u8(0);
  }

  #code(tag: number, attributes: readonly Attribute[], hasChildren: boolean): number {
    const key = `${tag},${hasChildren},${attributes.map(([name, form]) => `${name}:${form}`)}`;
    let code = this.#codes.get(key);
    if (code === undefined) {
      code = this.#codes.size + 1;
      this.#codes.set(key, code);
      this.#abbrev
        .uleb(code)
        .uleb(tag)
        .u8(hasChildren ? 1 : 0);
      for (const [name, form] of attributes) this.#abbrev.uleb(name).uleb(forms[form]);
      this.#abbrev.u8(0, 0);
    }
    return code;
  }
}
