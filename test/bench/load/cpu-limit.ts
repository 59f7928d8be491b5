/** A process held to a share of a core, so that one machine has enough left for the load that is too much for it. */
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Short: a process that has used its share of a period stands still until the next. */
const PERIOD_US = 5_000;

/**
 * Linux, as root; cgroup v1 or v2. Returns what lifts the limit. Throws an Error with a sentence for people where
 * control groups can not be written.
 */
export function limitCores(pid: number, cores: number, root = '/sys/fs/cgroup'): () => void {
  const isV2 = existsSync(join(root, 'cgroup.controllers'));
  const parent = isV2 ? root : join(root, 'cpu');
  const group = join(parent, `ts-bench-${pid}`);
  const quotaUs = Math.round(cores * PERIOD_US);
  try {
    if (isV2) writeFileSync(join(root, 'cgroup.subtree_control'), '+cpu');
    mkdirSync(group);
    if (isV2) writeFileSync(join(group, 'cpu.max'), `${quotaUs} ${PERIOD_US}`);
    else {
      writeFileSync(join(group, 'cpu.cfs_period_us'), String(PERIOD_US));
      writeFileSync(join(group, 'cpu.cfs_quota_us'), String(quotaUs));
    }
    writeFileSync(join(group, 'cgroup.procs'), String(pid));
  } catch (error) {
    throw new Error(`--gateway-cores needs control groups that may be written: ${(error as Error).message}`);
  }
  return () => {
    try {
      writeFileSync(join(parent, 'cgroup.procs'), String(pid));
    } catch {} // it has ended
    rmdirSync(group);
  };
}
