#!/usr/bin/env node
/**
 * Makes src/clustermesh/gen from the .proto file beside it.
 *
 *     node src/clustermesh/generate.ts
 */
import { join } from 'node:path';
import { writeMessageCode } from '../kvstore/message-code.ts';

const folder = import.meta.dirname;
const proto = join(folder, 'endpoint-slice.proto');
writeMessageCode(join(folder, 'gen'), folder, `${proto}#include_package_files=false`);
