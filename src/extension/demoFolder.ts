// The folder that the demo is debugged from: the kernel's sources, launch.json, and what there is to see.
import { mkdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { PreparedLab } from '../../lab/messages.ts';

/** The sources in the folder: a link into the cache. */
export const sourcesLink = 'linux';

/** What there is to see. package.json has the extension activated in a folder that holds it. */
export const tourFile = 'KVM Debug Demo.md';

/** Makes the folder, or completes it: a launch.json that is there is the user's. Returns its path. */
export async function makeDemoFolder(folder: string, { sources, configuration }: PreparedLab): Promise<string> {
  await mkdir(join(folder, '.vscode'), { recursive: true });
  await link(join(folder, sourcesLink), sources);
  const main = await readFile(join(sources, 'init/main.c'), 'utf8');
  await writeFile(join(folder, tourFile), tour(lineOfCall(main)));
  await writeNew(join(folder, '.vscode/launch.json'), launchJson(configuration));
  return folder;
}

async function link(path: string, target: string): Promise<void> {
  if ((await readlink(path).catch(() => undefined)) === target) return;
  await rm(path, { force: true });
  await symlink(target, path);
}

async function writeNew(path: string, text: string): Promise<void> {
  await writeFile(path, text, { flag: 'wx' }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
}

/** What launch.json says of a field. */
const comments: Readonly<Record<string, string>> = {
  lab: 'An emulated arm64 machine with KVM: F5 boots it when it does not run yet, in some ten seconds. The adapter, the\nVMM and the guest run in it, and the paths here are its paths.',
  initrd: 'Its init counts the seconds.',
  symbols: 'The same kernel with debug information; its sources are in the folder linux.',
  vmmArgs: 'So that the kernel moves itself to a random place (KASLR).',
  stopOnEntry: "The guest's first instruction, long before the kernel's C code.",
};

export function launchJson(fields: Readonly<Record<string, unknown>>): string {
  const name = "Demo: Debian's kernel in an emulated arm64 host";
  // The console is the extension's to say: see Demo.session.
  const { console: _console, name: _name, ...rest } = fields;
  const ordered = Object.entries({ type: 'kvm', request: 'launch', name, lab: true, ...rest });
  const lines = ordered.flatMap(([field, value], index) => {
    const comment = comments[field]?.split('\n').map((line) => `      // ${line}`) ?? [];
    return [...comment, `      "${field}": ${inline(value)}${index + 1 < ordered.length ? ',' : ''}`];
  });
  return `{\n  "version": "0.2.0",\n  "configurations": [\n    {\n${lines.join('\n')}\n    }\n  ]\n}\n`;
}

const inline = (value: unknown): string =>
  Array.isArray(value) ? `[${value.map((each) => JSON.stringify(each)).join(', ')}]` : JSON.stringify(value);

/** The line of init/main.c on which start_kernel() makes its first call with an effect that can be seen. */
function lineOfCall(main: string): number {
  const lines = main.split('\n');
  const start = lines.findIndex((line) => /\bstart_kernel\(void\)/.test(line));
  return lines.findIndex((line, index) => index > start && /\bboot_cpu_init\(\);/.test(line)) + 1;
}

const tour = (line: number): string => `# The demo: a guest's kernel under KVM, on a machine without arm64 or KVM

QEMU emulates an arm64 machine with KVM here, the *lab*. A guest with Debian's kernel runs in it, and is debugged as it
would be on real hardware: by the debug adapter beside its VMM.

1. **Press F5.** The lab boots if it does not run yet, and the guest stops at its first instruction. The MMU is off, and
   there is no C code yet: look at the vCPUs under *Call Stack*, and at the registers under *Variables*.
2. **Open [linux/init/main.c](${sourcesLink}/init/main.c#L${line})** and click beside line ${line}, in \`start_kernel()\`. Press F5 again:
   the kernel moves itself to a random place (KASLR), and stops there.
3. **Step** with F10 and F11, hover over a variable, watch \`init_task.comm\`, or type \`$sp\`, \`jiffies\` or
   \`&init_task.tasks\` into the *Debug Console*.
4. **Continue** to user space: with the breakpoint removed, F5 lets the guest run, and the *Debug Console* shows what it prints.
   Pause it with F6, wherever it is.
5. **Shift+F5** ends the guest. The lab stays for the next F5, and ends with this window.

The [launch configuration](.vscode/launch.json) is like one for a machine of your own, but for \`"lab": true\`. What is
emulated twice is slow: a step may take a tenth of a second, and the boot of the guest half a minute.
`;
