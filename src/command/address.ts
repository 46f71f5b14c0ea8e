// `addr ADDRESS…`: the functions around an address, innermost first, and their source lines.

import type { SymbolFile } from '../symbols/image.ts';
import { hex, type Subcommand, UsageError } from './subcommand.ts';

/** A function around an address. */
interface Frame {
  readonly function: string | null;
  readonly file: string | null;
  /** Of the innermost frame the line of the address, of the others the line of the call. */
  readonly line: number | null;
}

interface AddressDescription extends Frame {
  readonly address: string;
  /** Bytes from the start of the physical function. */
  readonly offset: number | null;
  /** The frames around the innermost one, the physical function last. */
  readonly inlined: readonly Frame[];
}

/** With 0x or without, as addr2line takes them. */
const parseAddress = (text: string): bigint => {
  const [, digits] = /^(?:0x)?([0-9a-f]{1,16})$/i.exec(text) ?? [];
  if (digits === undefined) throw new UsageError(`\`${text}\` is not a hexadecimal address of up to 64 bits.`);
  return BigInt(`0x${digits}`);
};

const describe = (image: SymbolFile, address: bigint): AddressDescription => {
  const chain = image.inlinesAt(address);
  const row = image.sourceAt(address);
  const symbol = image.symbolAt(address);
  const physical = chain.at(-1);
  const frames = chain.map(({ name }, index): Frame => {
    const call = chain[index - 1]?.call;
    // Line 0: the compiler attributes the code to no line (DWARF 5, 6.2.2).
    const place = index === 0 ? row : call;
    return { function: name, file: place?.file || null, line: place?.line || null };
  });
  const [innermost, ...inlined] = frames;
  // The symbol comes first: the entry of a patchable function is behind its symbol, and gdb counts from the symbol.
  const start = symbol?.symbol.address ?? physical?.entry;
  return {
    address: hex(address),
    function: innermost?.function ?? symbol?.symbol.name ?? null,
    offset: start === undefined ? null : Number(address - start),
    file: innermost?.file ?? (row?.file || null),
    line: innermost?.line ?? (row?.line || null),
    inlined,
  };
};

const at = ({ file, line }: Frame): string => (file === null ? '' : ` (${file}${line === null ? '' : `:${line}`})`);

const textOf = (description: AddressDescription): string[] => {
  const { address, inlined } = description;
  if (description.function === null) return [`No symbol matches ${address}.`];
  const offset = inlined.length > 0 || !description.offset ? '' : `+${description.offset}`;
  return [
    `${address} is in ${description.function}${offset}${at(description)}.`,
    ...inlined.map(
      (frame, index) =>
        `  inlined by ${frame.function}${index === inlined.length - 1 ? `+${description.offset}` : ''}${at(frame)}`,
    ),
  ];
};

export const addressSubcommand: Subcommand = {
  operands: 'ADDRESS…',
  summary: 'the functions around an address, inlined ones too, and their lines',
  run(image, operands) {
    const descriptions = operands.map((text) => describe(image, parseAddress(text)));
    return { json: () => descriptions, text: () => descriptions.flatMap(textOf) };
  },
};
