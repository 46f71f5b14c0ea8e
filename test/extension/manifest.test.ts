// package.json is what VS Code shows of launch.json: complete, and the same for launch and attach where they share.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { breakpointModes, consoles, exitTraps, parseAttach, parseLaunch, vmmKinds } from '../../src/dap/arguments.ts';

type Properties = Record<string, { markdownDescription?: string; enum?: string[]; enumDescriptions?: string[] }>;
interface Debugger {
  type: string;
  configurationAttributes: Record<'launch' | 'attach', { properties: Properties }>;
  initialConfigurations: Record<string, unknown>[];
  configurationSnippets: { body: Record<string, unknown> }[];
}

const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
  contributes: { debuggers: [Debugger] };
};
const [kvm] = manifest.contributes.debuggers;
const launch = kvm.configurationAttributes.launch.properties;
const attach = kvm.configurationAttributes.attach.properties;

describe('package.json', () => {
  it('describes every field of launch.json, and every value of those with a choice', () => {
    for (const [name, field] of [...Object.entries(launch), ...Object.entries(attach)]) {
      assert.ok(field.markdownDescription, name);
      assert.equal(field.enumDescriptions?.length, field.enum?.length, name);
    }
  });

  it('says the same of what launch and attach share', () => {
    const shared = Object.keys(launch).filter((name) => name in attach);
    assert.ok(shared.length > 0);
    for (const name of shared) assert.deepEqual(launch[name], attach[name], name);
  });

  it('offers configurations of known fields only', () => {
    const common = ['type', 'request', 'name'];
    for (const offered of [...kvm.initialConfigurations, ...kvm.configurationSnippets.map(({ body }) => body)]) {
      const known = [...common, ...Object.keys(offered.request === 'attach' ? attach : launch)];
      for (const name of Object.keys(offered)) assert.ok(known.includes(name), name);
      if (offered.request === 'launch')
        parseLaunch(offered); // throws where the adapter would refuse it
      else assert.throws(() => parseAttach(offered), /"pid"/); // still the variable that asks
    }
  });

  it('offers the choices and fields that the adapter takes', () => {
    assert.deepEqual(launch.vmm?.enum, [...vmmKinds]);
    assert.deepEqual(launch.breakpointMode?.enum, [...breakpointModes]);
    assert.deepEqual(launch.console?.enum, [...consoles]);
    assert.deepEqual(launch.exitTrap?.enum, [...exitTraps]);
    // What neither parser looks at would be offered in vain.
    const read = new Set<string>();
    const get = (target: object, name: string | symbol): unknown => {
      read.add(String(name));
      return Reflect.get(target, name);
    };
    const seen = (values: object) => new Proxy(values, { get });
    parseLaunch(seen({ kernel: 'Image' }));
    parseLaunch(seen({ command: ['vmm'] }));
    parseAttach(seen({ pid: 1 }));
    assert.deepEqual(
      [...Object.keys(launch), ...Object.keys(attach)].filter((name) => !read.has(name)),
      [],
    );
    assert.deepEqual(
      [...read].filter((name) => !(name in launch) && !(name in attach) && name !== 'remote'),
      [],
    );
  });

  it('names every package at one exact version', () => {
    for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
      assert.match(version, /^\d+\.\d+\.\d+$/, name);
    }
  });
});
