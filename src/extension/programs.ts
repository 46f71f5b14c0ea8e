import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { basename, delimiter, isAbsolute, join } from 'node:path';
import { vmmKinds, vmmNames } from '../dap/arguments.ts';

export type VmmKind = (typeof vmmKinds)[number];

/** The VMM that is installed, the first of those we know of; `path`: as $PATH. */
export async function installedVmm(path = ''): Promise<VmmKind | undefined> {
  return (await installedVmms(path))[0]?.kind;
}

/** The programs that the adapter would start, the first found of each kind. */
export async function installedVmms(
  path = '',
): Promise<readonly { readonly kind: VmmKind; readonly program: string }[]> {
  const found: { kind: VmmKind; program: string }[] = [];
  for (const kind of vmmKinds) {
    const program = await firstProgram(vmmNames[kind], path);
    if (program !== undefined) found.push({ kind, program });
  }
  return found;
}

async function firstProgram(names: readonly string[], path: string): Promise<string | undefined> {
  // The adapter looks a VMM up in absolute folders only.
  const folders = path.split(delimiter).filter(isAbsolute);
  for (const name of names) {
    for (const folder of folders) {
      const program = join(folder, name);
      if (await isProgram(program)) return program;
    }
  }
  return undefined;
}

/** What VMM a program is, told by its name. */
export function kindOf(program: string): VmmKind | undefined {
  const name = basename(program);
  if (/^qemu(-|$)/.test(name)) return 'qemu';
  return vmmNames.kvmtool.includes(name) ? 'kvmtool' : undefined;
}

async function isProgram(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

/** "none of lkvm, … and qemu-system-aarch64": what was looked for in vain. */
export function noProgram(): string {
  const names = vmmKinds.flatMap((kind) => vmmNames[kind]);
  return `none of ${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}
