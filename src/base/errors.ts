// Errors are told apart by what follows from them, never by their text. Anything that is none of these is a bug.

/** The user's input or machine is at fault; the message says what is wrong and what to do. The session lives. */
export class UserError extends Error {
  override readonly name: string = 'UserError';
}

/** One operation on the target failed; the session lives. */
export class TargetError extends Error {
  override readonly name: string = 'TargetError';
}

export type AddressSpace = 'virtual' | 'physical' | 'host';

/** Memory at `address` cannot be accessed. `address` is the first failing byte in `space`. */
export class MemoryFault extends TargetError {
  override readonly name = 'MemoryFault';
  constructor(
    readonly space: AddressSpace,
    readonly address: bigint,
    why: string,
    options?: ErrorOptions,
  ) {
    super(`Cannot access ${space} memory at 0x${address.toString(16)}: ${why}`, options);
  }
}

/** The session cannot go on (VMM gone, state that could not be restored). Shown to the user, then the session ends. */
export class SessionError extends Error {
  override readonly name = 'SessionError';
}

/** A file or byte stream is malformed. `offset` is in bytes from the start of `where` (a section or a file). */
export class FormatError extends UserError {
  override readonly name = 'FormatError';
  constructor(
    readonly where: string,
    readonly offset: number,
    what: string,
    options?: ErrorOptions,
  ) {
    super(`${where}+0x${offset.toString(16)}: ${what}`, options);
  }
}

/** The message of anything thrown, for texts that embed a cause. */
export const messageOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown));
