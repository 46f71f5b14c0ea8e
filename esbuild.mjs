// Bundles the programs of the package into dist/. koffi stays external (esbuild cannot bundle a native addon);
// everything else is inside the bundles. dist/ is CommonJS, which both plain Node and VS Code's runtime load.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { build } from 'esbuild';

rmSync('dist', { recursive: true, force: true });
mkdirSync('dist', { recursive: true });
writeFileSync('dist/package.json', `${JSON.stringify({ type: 'commonjs' })}\n`);
await build({
  entryPoints: { adapter: 'src/adapter.ts', guardian: 'src/guardian.ts', extension: 'src/extension/extension.ts' },
  outdir: 'dist',
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  external: ['koffi', 'vscode'],
  sourcemap: true,
  logLevel: 'warning',
});
