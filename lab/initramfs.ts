/** The small archive made for each boot: drivers, init, agent, and the files that the caller brings along. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { appletNames } from './busybox.ts';
import { Cpio } from './cpio.ts';
import { type HostImage, lkvm } from './image.ts';

/** Path in the lab to a path on this machine (a file, or a folder taken whole), or to the content itself. */
export type LabFiles = Record<string, string | Uint8Array>;

/** What the host's disk, root, agent and network need; the rest of the drivers stays out. */
const DRIVERS = ['virtio_pci', 'virtio_blk', 'overlay', 'virtio_console', 'virtio_net', 'virtio-rng'];

/** Files below this folder appear in the host's root, above the disk's. */
const FILES = '/files';

export function hostInitramfs(image: HostImage, files: LabFiles): Buffer {
  const archive = new Cpio();
  for (const folder of ['/dev', '/proc', '/sys']) archive.folder(folder);
  // The kernel opens the console before init runs, thus before devtmpfs is mounted.
  archive.characterDevice('/dev/console', 5, 1);
  const busybox = readFileSync(image.busybox);
  archive.file('/bin/busybox', busybox);
  for (const applet of appletNames(busybox)) archive.link(`/bin/${applet}`, 'busybox');
  const modules = kernelModules(image.modules, DRIVERS);
  for (const path of modules) archive.file(`/modules/${basename(path)}`, readFileSync(path), 0o644);
  archive.file('/modules/order', `${modules.map((path) => basename(path)).join('\n')}\n`, 0o644);

  const host = join(import.meta.dirname, 'host');
  archive.file('/init', readFileSync(join(host, 'init')));
  archive.file(`${FILES}/lab/main`, readFileSync(join(host, 'main')));
  archive.file(`${FILES}/lab/agent.cjs`, readFileSync(join(host, 'agent.cjs')));
  archive.file(`${FILES}/lab/guest/initrd`, readFileSync(image.guestInitrd), 0o644);
  const kvmtool = lkvm();
  if (kvmtool) archive.file(`${FILES}/usr/bin/lkvm`, readFileSync(kvmtool));
  for (const [path, content] of Object.entries(files)) addFile(archive, path, content);
  return archive.bytes();
}

function addFile(archive: Cpio, path: string, content: string | Uint8Array): void {
  if (!path.startsWith('/')) throw new Error(`a path in the lab starts with a slash: ${path}`);
  if (typeof content !== 'string') {
    archive.file(FILES + path, content);
    return;
  }
  if (!existsSync(content)) throw new Error(`${content}, which was to be ${path} in the lab, does not exist`);
  const status = statSync(content);
  if (status.isDirectory()) {
    archive.folder(FILES + path);
    for (const name of readdirSync(content)) addFile(archive, join(path, name), join(content, name));
  } else {
    archive.file(FILES + path, readFileSync(content), status.mode & 0o777);
  }
}

/** Paths of the named modules and all they depend on, in the order to load them; built-in ones are left out. */
function kernelModules(folder: string, names: readonly string[]): string[] {
  const found = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.ko'));
  const canonical = (name: string): string => basename(name, '.ko').replaceAll('-', '_');
  const paths = new Map(found.map((path) => [canonical(path), join(folder, path)]));
  const ordered = new Set<string>();
  const visit = (name: string): void => {
    const path = paths.get(canonical(name));
    if (!path || ordered.has(path)) return;
    for (const needed of dependencies(readFileSync(path))) visit(needed);
    ordered.add(path);
  };
  names.forEach(visit);
  return [...ordered];
}

/** The `depends=` entry of a module's .modinfo section (include/linux/module.h, MODULE_INFO). */
function dependencies(module: Buffer): string[] {
  const start = module.indexOf('\0depends=') + '\0depends='.length;
  return module.toString('latin1', start, module.indexOf(0, start)).split(',').filter(Boolean);
}
