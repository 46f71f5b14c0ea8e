import { existsSync } from 'node:fs';
import { isAbsolute, normalize, posix } from 'node:path';
import type { CodeLocation, SourceLocation } from '../symbols/image.ts';
import type { KernelSymbols } from './symbols.ts';

/** Turns paths of the debug information into paths of the user's machine and back. */
export class SourcePaths {
  readonly #rules: readonly (readonly [from: string, to: string])[];
  /** Compiled path to the path the client used when it bound a breakpoint there. */
  readonly #bound = new Map<string, string>();
  readonly #found = new Map<string, string>();

  /** `map`: compiled prefix to local prefix; the longest that matches wins. */
  constructor(map: Readonly<Record<string, string>> = {}) {
    this.#rules = Object.entries(map)
      .map(([from, to]) => [trimSlash(from), trimSlash(to)] as const)
      .sort(([a], [b]) => b.length - a.length);
  }

  /** Where the user finds a file: by the source map, else where a breakpoint bound it, else as compiled. */
  local(location: SourceLocation): string {
    const compiled = compiledPath(location);
    const known = this.#found.get(compiled);
    if (known !== undefined) return known;
    const mapped =
      replacePrefix(compiled, this.#rules) ?? replacePrefix(location.file, this.#rules) ?? this.#below(location);
    const bound = this.#bound.get(compiled);
    const path = mapped !== undefined && (bound === undefined || existsSync(mapped)) ? mapped : (bound ?? compiled);
    this.#found.set(compiled, path);
    return path;
  }

  /** Code of a line of a file that the client names; matched by ever shorter suffixes, as the tree may lie elsewhere. */
  locations(symbols: KernelSymbols, path: string, line: number): readonly CodeLocation[] {
    for (const candidate of this.#candidates(path)) {
      const locations = symbols.locationsOf(candidate, line);
      if (locations.length === 0) continue;
      for (const location of locations) this.#bind(location, path);
      return locations;
    }
    return [];
  }

  linesWithCode(symbols: KernelSymbols, path: string, from: number, to: number): readonly number[] {
    for (const candidate of this.#candidates(path)) {
      const lines = symbols.linesWithCode(candidate, from, to);
      if (lines.length > 0) return lines;
    }
    return [];
  }

  // Kernels are built with paths relative to the tree: then the tree is where one of the map's local folders has them.
  #below({ file }: SourceLocation): string | undefined {
    if (isAbsolute(file)) return undefined;
    return this.#rules.map(([, to]) => posix.join(to, file)).find((path) => existsSync(path));
  }

  #bind(location: SourceLocation, path: string): void {
    const compiled = compiledPath(location);
    // Only the file itself, not another one whose code lies on the line (an included body).
    if (posix.basename(compiled) !== posix.basename(path) || !isAbsolute(path)) return;
    this.#bound.set(compiled, path);
    this.#found.delete(compiled);
  }

  *#candidates(path: string): Iterable<string> {
    const reversed = this.#rules.map(([from, to]) => [to, from] as const).sort(([a], [b]) => b.length - a.length);
    const mapped = replacePrefix(normalize(path), reversed);
    if (mapped !== undefined) yield mapped;
    const parts = normalize(path)
      .split('/')
      .filter((part) => part !== '' && part !== '.');
    yield normalize(path);
    // Two components at least: a lone `main.c` would bind in any directory, unless that is all the client said.
    for (let start = 1; start <= parts.length - 2; start++) yield parts.slice(start).join('/');
  }
}

const trimSlash = (path: string): string => (path.length > 1 ? path.replace(/\/+$/, '') : path);

// A compilation directory that is itself relative (reproducible builds) says nothing about where the file is.
const compiledPath = ({ file, directory }: SourceLocation): string =>
  posix.normalize(posix.isAbsolute(file) || !posix.isAbsolute(directory) ? file : posix.join(directory, file));

function replacePrefix(path: string, rules: readonly (readonly [string, string])[]): string | undefined {
  for (const [from, to] of rules) {
    if (path === from) return to;
    const prefix = from.endsWith('/') ? from : `${from}/`;
    if (path.startsWith(prefix)) return posix.join(to, path.slice(prefix.length));
  }
  return undefined;
}
