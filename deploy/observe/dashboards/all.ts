import type { Dashboard } from '../dashboard.js';
import { abuse } from './abuse.js';
import { controlPlane } from './control-plane.js';
import { dataPath } from './data-path.js';
import { fleet } from './fleet.js';
import { money } from './money.js';
import { overview } from './overview.js';

/** Every page, by the name of its file. */
export const dashboards: Readonly<Record<string, Dashboard>> = {
  overview,
  'data-path': dataPath,
  money,
  fleet,
  'control-plane': controlPlane,
  abuse,
};
