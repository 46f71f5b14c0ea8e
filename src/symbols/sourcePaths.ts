// Which of the paths in the debug information a path of the user's means.

/** Components with `.` and `..` resolved as far as the path itself allows. */
const componentsOf = (path: string): string[] => {
  const components: string[] = [];
  for (const component of path.replaceAll('\\', '/').split('/')) {
    if (component === '' || component === '.') continue;
    const last = components.at(-1);
    if (component === '..' && last !== undefined && last !== '..') components.pop();
    else components.push(component);
  }
  return components;
};

const isAbsolute = (path: string): boolean => /^([/\\]|[A-Za-z]:[/\\])/.test(path);

/** The last component, which is all of a path that an index knows it by. */
export const baseNameOf = (path: string): string => componentsOf(path).at(-1) ?? '';

/** The whole path of a file that is named relative to a directory, in one spelling; undefined when it cannot be known. */
export const wholePath = (path: string, directory: string | undefined): string | undefined => {
  if (isAbsolute(path)) return componentsOf(path).join('/');
  if (directory === undefined || !isAbsolute(directory)) return undefined;
  return componentsOf(`${directory}/${path}`).join('/');
};

/** Some may be one file, named in ways that trailing components do not show. */
export const mayBeSpelledDifferently = (paths: Iterable<string>): boolean => {
  const kinds = new Set<boolean>();
  for (const path of paths) {
    if (componentsOf(path)[0] === '..') return true;
    kinds.add(isAbsolute(path));
  }
  return kinds.size > 1;
};

/** Compares paths by whole trailing components. */
export class PathPattern {
  /** The last component, which every match ends with. */
  readonly baseName: string;
  readonly #components: readonly string[];
  readonly #absolute: boolean;

  constructor(readonly path: string) {
    this.#components = componentsOf(path);
    this.#absolute = isAbsolute(path);
    this.baseName = this.#components.at(-1) ?? '';
  }

  /** How well a path matches, 0 for not at all. Only the best matches of an image count:
   *  - the same path
   *  - one is the end of the other, where what is longer may be anything: `init/main.c` and `/src/linux/init/main.c`;
   *    the more components the better, so that `lib/string.c` does not stand for `tools/lib/string.c`
   *  - both are absolute and end alike in at least a directory and a name: two checkouts of one tree */
  rank(path: string): number {
    const other = componentsOf(path);
    const mine = this.#components;
    let common = 0;
    while (common < mine.length && common < other.length && mine.at(-1 - common) === other.at(-1 - common)) common++;
    if (common === 0) return 0;
    const absolute = isAbsolute(path);
    const allMine = common === mine.length;
    const allOther = common === other.length;
    if (allMine && allOther && absolute === this.#absolute) return 3e6;
    if ((allMine && !this.#absolute) || (allOther && !absolute)) return 2e6 + common;
    return common >= 2 ? 1e6 + common : 0;
  }
}
