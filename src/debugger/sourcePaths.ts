import { existsSync } from 'node:fs';
import { isAbsolute, normalize, posix } from 'node:path';
import type { CodeLocation, SourceLocation } from '../symbols/image.ts';
import type { KernelSymbols } from './symbols.ts';

/** Turns paths of the debug information into paths of the user's machine and back. */
export class SourcePaths {
  readonly #rules: readonly (readonly [from: string, to: string])[];
  /** Compiled path to the path the client used when it bound a breakpoint there. */
  readonly #bound = new Map<string, string>();
  /** Compiled prefixes and where the client has what is below them, by the breakpoints it has set. */
  readonly #learned = new Map<string, string>();
  readonly #found = new Map<string, string | undefined>();
  readonly #root: string | undefined;

  /** `map`: compiled prefix to local prefix; the longest that matches wins. `root`: a folder below which files are looked for
   *  by the end of their path. */
  constructor(map: Readonly<Record<string, string>> = {}, root?: string) {
    this.#root = root;
    this.#rules = Object.entries(map)
      .map(([from, to]) => [trimSlash(from), trimSlash(to)] as const)
      .sort(([a], [b]) => b.length - a.length);
  }

  /** Where the user finds a file, or would: as compiled where it is nowhere else. */
  local(location: SourceLocation): string {
    return this.find(location) ?? compiledPath(location);
  }

  /** Where the user finds a file: by the source map, else where a breakpoint bound it, else below the root, else where others of
   *  its tree are, else as compiled. Undefined when it is at none of these places. */
  find(location: SourceLocation): string | undefined {
    const compiled = compiledPath(location);
    if (!this.#found.has(compiled)) this.#found.set(compiled, this.#search(location, compiled));
    return this.#found.get(compiled);
  }

  #search(location: SourceLocation, compiled: string): string | undefined {
    const mapped =
      replacePrefix(compiled, this.#rules) ?? replacePrefix(location.file, this.#rules) ?? this.#below(location);
    const bound = this.#bound.get(compiled);
    if (mapped !== undefined && (bound === undefined || existsSync(mapped))) return mapped;
    return (
      bound ??
      this.#belowRoot(compiled) ??
      this.#besideOthers(compiled) ??
      (existsSync(compiled) ? compiled : undefined)
    );
  }

  #belowRoot(compiled: string): string | undefined {
    const root = this.#root;
    if (root === undefined) return undefined;
    return suffixes(compiled)
      .map((suffix) => posix.join(root, suffix))
      .find((path) => existsSync(path));
  }

  #besideOthers(compiled: string): string | undefined {
    const longestFirst = [...this.#learned].sort(([a], [b]) => b.length - a.length);
    const path = replacePrefix(compiled, longestFirst);
    const [, folder] = longestFirst.find(([from]) => compiled.startsWith(from)) ?? [];
    if (path === undefined || folder === undefined) return undefined;
    // A tree that cannot be seen from here is the client's, on another machine.
    return existsSync(path) || !existsSync(folder) ? path : undefined;
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
    const common = suffixes(compiled).find((suffix) => path.endsWith(`/${suffix}`));
    if (common !== undefined) {
      const [from, to] = [compiled, path].map((whole) => whole.slice(0, -common.length).replace(/(?<=.)\/$/, ''));
      if (from !== undefined && from !== '' && to !== undefined && to !== '') this.#learned.set(from, to);
    }
    this.#found.clear();
  }

  *#candidates(path: string): Iterable<string> {
    const reversed = this.#rules.map(([from, to]) => [to, from] as const).sort(([a], [b]) => b.length - a.length);
    const mapped = replacePrefix(normalize(path), reversed);
    if (mapped !== undefined) yield mapped;
    yield normalize(path);
    yield* suffixes(path).slice(1);
  }
}

/** The ends of a path, the longest first. Two components at least: a lone `main.c` is in many directories. */
function suffixes(path: string): readonly string[] {
  const parts = normalize(path)
    .split('/')
    .filter((part) => part !== '' && part !== '.');
  return parts.slice(0, Math.max(parts.length - 1, 0)).map((_, start) => parts.slice(start).join('/'));
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
