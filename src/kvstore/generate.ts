#!/usr/bin/env node
/**
 * Makes src/kvstore/gen from etcd's own .proto files, those of the Go module named below (fetched by
 * `go mod download`, verified by Go's checksum database). Only what a client needs is kept: the options of
 * gogoproto, grpc-gateway and etcd's version annotations are stripped, since they change nothing on the wire
 * and their definitions are not part of the module.
 *
 *     node src/kvstore/generate.ts
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { writeMessageCode } from './message-code.ts';

const module = 'go.etcd.io/etcd/api/v3@v3.6.4';
const files = ['mvccpb/kv.proto', 'authpb/auth.proto', 'etcdserverpb/rpc.proto'];
const output = join(import.meta.dirname, 'gen');

const work = mkdtempSync(join(tmpdir(), 'isthmus-etcd-proto-'));
try {
  const source = moduleDirectory(module);
  for (const file of files) {
    const target = join(work, 'etcd/api', file);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, strip(readFileSync(join(source, file), 'utf8')));
  }
  writeFileSync(join(work, 'buf.yaml'), 'version: v2\n');
  writeMessageCode(output, work);
} finally {
  rmSync(work, { recursive: true, force: true });
}

/** Where Go keeps the module's files; downloads them when they are missing. */
function moduleDirectory(name: string): string {
  const answer = execFileSync('go', ['mod', 'download', '-json', name], { cwd: work, encoding: 'utf8' });
  const directory = /"Dir": "([^"]+)"/.exec(answer)?.[1];
  if (!directory) throw new Error(`go mod download ${name} named no directory: ${answer}`);
  return directory;
}

/** Removes imports and options whose definitions live outside etcd's module. */
function strip(text: string): string {
  return stripHttpAnnotations(text)
    .replace(/^import "(gogoproto|google\/api|protoc-gen-openapiv2|etcd\/api\/versionpb)\/[^"]*";\n/gm, '')
    .replace(/^option \(grpc\.gateway[\s\S]*?^\};\n/gm, '')
    .replace(/^\s*option \((gogoproto|versionpb)\.[^)]*\)\s*=\s*[^;]*;\n/gm, '')
    .replace(/\s*\[\((?:gogoproto|versionpb)\.[^\]]*\]/g, '');
}

function stripHttpAnnotations(text: string): string {
  return text.replace(/(rpc [^{;]*)\{\s*option \(google\.api\.http\) = \{[\s\S]*?\};\s*\}/g, '$1;');
}
