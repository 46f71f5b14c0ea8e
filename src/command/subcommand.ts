// What a subcommand of `kvm-debug symbols` is: a question to an image, and its answer for programs and for people.

import { UserError } from '../base/errors.ts';
import type { SymbolFile } from '../symbols/image.ts';

export interface Answer {
  /** What `--json` prints. Only one of the two is asked for: each may have to look up more. */
  json(): unknown;
  /** Lines of plain output, which read like gdb's. */
  text(): readonly string[];
}

export interface Subcommand {
  /** Its operands, for the usage text. A name that ends in … may be given several times. */
  readonly operands: string;
  readonly summary: string;
  /** Throws a UserError when there is nothing to answer, which ends the command with status 1. */
  run(image: SymbolFile, operands: readonly string[]): Answer | Promise<Answer>;
}

/** The command line is wrong: the usage is shown, and the exit status is 2. */
export class UsageError extends UserError {
  override readonly name = 'UsageError';
}

export const hex = (address: bigint): string => `0x${address.toString(16)}`;

/** `<symbol+offset>` as gdb prints it behind an address; empty where no symbol is known. */
export const symbolic = (image: SymbolFile, address: bigint): string => {
  const found = image.symbolAt(address);
  if (found === undefined) return '';
  return ` <${found.symbol.name}${found.offset === 0n ? '' : `+${found.offset}`}>`;
};
