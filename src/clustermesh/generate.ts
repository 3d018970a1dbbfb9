#!/usr/bin/env node
/**
 * Makes src/clustermesh/gen from the .proto file beside it.
 *
 *     node src/clustermesh/generate.ts
 */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';

const tools = join(import.meta.dirname, '../../node_modules/.bin');
const output = join(import.meta.dirname, 'gen');
const template = {
  version: 'v2',
  plugins: [
    {
      local: join(tools, 'protoc-gen-es'),
      out: output,
      // JavaScript beside declarations, as for etcd: one shape of generated code.
      opt: ['target=js+dts', 'import_extension=js'],
    },
  ],
};
rmSync(output, { recursive: true, force: true });
const proto = join(import.meta.dirname, 'endpoint-slice.proto');
execFileSync(
  join(tools, 'buf'),
  ['generate', `${proto}#include_package_files=false`, '--template', JSON.stringify(template)],
  {
    cwd: import.meta.dirname,
    stdio: 'inherit',
  },
);
