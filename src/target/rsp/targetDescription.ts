// What registers a stub has, and how they go over the wire (GDB manual, appendix G "Target Descriptions").

import { parseXml, type XmlElement } from '@rgrove/parse-xml';
import { FormatError, messageOf, UserError } from '../../base/errors.ts';

export interface RemoteRegister {
  /** As the stub spells it. */
  readonly name: string;
  /** For `p` and `P`; the order of numbers is that in `g`. */
  readonly number: number;
  readonly bytes: number;
}

export interface TargetDescription {
  /** `aarch64`, `i386:x86-64`, …; undefined when the stub does not say. */
  readonly architecture: string | undefined;
  readonly registers: readonly RemoteRegister[];
}

const limits = { annexes: 64, depth: 8, registers: 4096, bits: 65536 };

interface Found {
  architecture: string | undefined;
  readonly registers: RemoteRegister[];
  /** The number of a register that names none: one more than that in front of it (G.2.6). */
  next: number;
  annexes: number;
}

/** Reads the description that `target.xml` begins, and what it includes. `read` gets the text of an annex. UserError when it
 *  is not a description. */
export async function readTargetDescription(read: (annex: string) => Promise<string>): Promise<TargetDescription> {
  const found: Found = { architecture: undefined, registers: [], next: 0, annexes: 0 };
  await readAnnex('target.xml', read, found, 0);
  return { architecture: found.architecture, registers: [...found.registers].sort((a, b) => a.number - b.number) };
}

async function readAnnex(
  annex: string,
  read: (annex: string) => Promise<string>,
  found: Found,
  depth: number,
): Promise<void> {
  if (++found.annexes > limits.annexes || depth > limits.depth) {
    throw new UserError("The remote stub's target description has too many parts.");
  }
  const text = await read(annex);
  let root: XmlElement | null;
  try {
    // It expands no entities but XML's own five, and opens no files.
    ({ root } = parseXml(text));
  } catch (cause) {
    const { pos } = cause as { readonly pos?: number };
    throw new FormatError(`the remote stub's ${annex}`, pos ?? 0, messageOf(cause).split('\n')[0] ?? '', { cause });
  }
  if (root) await visit(root, read, found, depth);
}

async function visit(
  element: XmlElement,
  read: (annex: string) => Promise<string>,
  found: Found,
  depth: number,
): Promise<void> {
  const { name, attributes } = element;
  if (name === 'architecture') found.architecture ??= element.text.trim();
  else if (name === 'reg') addRegister(attributes, found);
  else if (name === 'xi:include') {
    if (attributes.href !== undefined) await readAnnex(attributes.href, read, found, depth + 1);
  } else if (name === 'target' || name === 'feature') {
    for (const child of element.children) {
      if (child.type === 'element') await visit(child as XmlElement, read, found, depth);
    }
  }
}

function addRegister({ name, bitsize, regnum }: Readonly<Record<string, string>>, found: Found): void {
  const bits = Number(bitsize);
  const number = regnum === undefined ? found.next : Number(regnum);
  const isSensible =
    Number.isInteger(bits) &&
    bits > 0 &&
    bits % 8 === 0 &&
    bits <= limits.bits &&
    Number.isInteger(number) &&
    number >= 0;
  if (name === undefined || !isSensible || found.registers.length === limits.registers) {
    throw new UserError(
      `The remote stub describes a register that cannot be: "${name ?? ''}" with ${bitsize ?? 'no'} bits, number ${number}.`,
    );
  }
  found.next = number + 1;
  found.registers.push({ name, number, bytes: bits / 8 });
}
