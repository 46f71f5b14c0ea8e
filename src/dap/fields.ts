import { Gva } from '../base/address.ts';
import { UserError } from '../base/errors.ts';

interface Range {
  readonly min?: number;
  readonly max?: number;
}

/** Typed access to the fields of untrusted JSON; whatever is wrong is a UserError that names the field. */
export class Fields {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #asked = new Set<string>();

  /** `where` begins each message: the request or the part of it. */
  constructor(
    values: unknown,
    readonly where: string,
  ) {
    if (values === undefined || values === null) this.#values = {};
    else if (typeof values === 'object' && !Array.isArray(values)) this.#values = values as Record<string, unknown>;
    else throw new UserError(`${where}: an object is expected, not ${show(values)}.`);
  }

  has(name: string): boolean {
    this.#asked.add(name);
    return this.#values[name] !== undefined && this.#values[name] !== null;
  }

  /** All of them, for a validator of their own. */
  all(): Readonly<Record<string, unknown>> {
    return this.#values;
  }

  raw(name: string): unknown {
    this.#asked.add(name);
    return this.#values[name] ?? undefined;
  }

  /** The fields that nobody has asked for so far. */
  unasked(): readonly string[] {
    return Object.keys(this.#values).filter((name) => !this.#asked.has(name));
  }

  string(name: string, remedy = ''): string {
    return this.optionalString(name) ?? this.#missing(name, remedy);
  }

  optionalString(name: string): string | undefined {
    const value = this.raw(name);
    if (value === undefined || typeof value === 'string') return value;
    throw this.wrong(name, 'a string');
  }

  integer(name: string, range: Range = {}): number {
    return this.optionalInteger(name, range) ?? this.#missing(name);
  }

  optionalInteger(
    name: string,
    { min = Number.MIN_SAFE_INTEGER, max = Number.MAX_SAFE_INTEGER }: Range = {},
  ): number | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    if (Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max) return value as number;
    const low = min === Number.MIN_SAFE_INTEGER ? '' : ` of at least ${min}`;
    const high = max === Number.MAX_SAFE_INTEGER ? '' : ` and at most ${max}`;
    throw this.wrong(name, `a whole number${low}${high}`);
  }

  boolean(name: string, otherwise = false): boolean {
    return this.optionalBoolean(name) ?? otherwise;
  }

  optionalBoolean(name: string): boolean | undefined {
    const value = this.raw(name);
    if (value === undefined || typeof value === 'boolean') return value;
    throw this.wrong(name, 'true or false');
  }

  choice<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const value = this.optionalString(name);
    if (value === undefined) return undefined;
    const found = choices.find((choice) => choice === value);
    if (found === undefined) throw this.wrong(name, `one of ${choices.map((choice) => `"${choice}"`).join(', ')}`);
    return found;
  }

  oneOf<T extends string>(name: string, choices: readonly T[]): T {
    return this.choice(name, choices) ?? this.#missing(name);
  }

  strings(name: string): readonly string[] {
    const value = this.raw(name);
    if (value === undefined) return [];
    if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
    throw this.wrong(name, 'a list of strings');
  }

  record(name: string): Readonly<Record<string, string>> {
    const value = this.raw(name);
    if (value === undefined) return {};
    if (typeof value === 'object' && !Array.isArray(value) && value !== null) {
      const entries = Object.entries(value);
      if (entries.every((entry): entry is [string, string] => typeof entry[1] === 'string')) {
        return Object.fromEntries(entries);
      }
    }
    throw this.wrong(name, 'an object whose values are strings');
  }

  object(name: string): Fields {
    return new Fields(this.raw(name), `${this.where}: ${name}`);
  }

  list(name: string): readonly Fields[] {
    const value = this.raw(name);
    if (value === undefined) return [];
    if (!Array.isArray(value)) throw this.wrong(name, 'a list');
    return value.map((item, index) => new Fields(item, `${this.where}: ${name}[${index}]`));
  }

  /** A memory reference: a number, hexadecimal with 0x. */
  address(name: string): Gva {
    const text = this.string(name).trim();
    if (!/^(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})$/.test(text) || BigInt(text) >= 1n << 64n) {
      throw new UserError(
        `${this.where}: ${name} \`${text.slice(0, 80)}\` is not an address such as 0xffff800008000000.`,
      );
    }
    return Gva(BigInt(text));
  }

  wrong(name: string, wanted: string): UserError {
    return new UserError(`${this.where}: "${name}" must be ${wanted}, not ${show(this.raw(name))}.`);
  }

  #missing(name: string, remedy = ''): never {
    throw new UserError(`${this.where}: "${name}" is missing${remedy ? `; ${remedy}` : ''}.`);
  }
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}
