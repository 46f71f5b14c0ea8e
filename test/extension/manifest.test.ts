// package.json is what VS Code shows of launch.json: complete, and the same for launch and attach where they share.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';

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
    }
  });

  it('names every package at one exact version', () => {
    for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
      assert.match(version, /^\d+\.\d+\.\d+$/, name);
    }
  });
});
