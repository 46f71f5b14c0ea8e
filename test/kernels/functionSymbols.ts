/** Functions that have a size, and sections, as readelf says. */
import { linesOf } from './kernel.ts';

export interface FunctionSymbol {
  readonly name: string;
  readonly section: number;
  /** An address; in a relocatable file an offset in the section. */
  readonly value: bigint;
  readonly size: number;
}

export interface Contents {
  readonly functions: readonly FunctionSymbol[];
  /** Numbers of sections by name. */
  readonly sections: ReadonlyMap<string, number>;
}

export async function contents(path: string): Promise<Contents> {
  const functions: FunctionSymbol[] = [];
  for await (const line of linesOf('readelf', ['-sW', path])) {
    const [, value, size, type, , , section, name = ''] = line.trim().split(/\s+/);
    if (type !== 'FUNC' || section === 'UND' || Number(size) === 0) continue;
    functions.push({ name, section: Number(section), value: BigInt(`0x${value}`), size: Number(size) });
  }
  const sections = new Map<string, number>();
  for await (const line of linesOf('readelf', ['-SW', path])) {
    const [, number, name = ''] = /^ +\[ *(\d+)\] (\S+)/.exec(line) ?? [];
    if (number !== undefined) sections.set(name, Number(number));
  }
  return { functions, sections };
}
