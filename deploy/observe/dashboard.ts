/** Units as Grafana names them. */
export type PanelUnit =
  | 'short'
  | 's'
  | 'bytes'
  | 'Bps'
  | 'ops'
  | 'percentunit'
  | 'currencyUSD'
  | 'bool_yes_no';

/** One figure. */
export interface Panel {
  title: string;
  /** What a reader should know of it. */
  about?: string;
  unit: PanelUnit;
  /** A number of now instead of a curve. */
  stat?: boolean;
  /** From here on it is shown in red; `stat` only. */
  alarmFrom?: number;
  /** PromQL and what each of its series is called (`{{label}}`: the label's value). */
  queries: readonly (readonly [expr: string, legend: string])[];
}

/** Panels under a heading. */
export interface Row {
  title: string;
  panels: readonly Panel[];
}

/** A page of figures. */
export interface Dashboard {
  /** Stays when the title changes: links name it. */
  uid: string;
  title: string;
  about: string;
  rows: readonly Row[];
}

/** The data source that the panels' pages choose among; provisioned under this name. */
// biome-ignore lint/suspicious/noTemplateCurlyInString: filled in by Grafana
const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };
const GRID_WIDTH = 24;
const STAT = { w: 4, h: 4 };
const CURVES = { w: 8, h: 8 };
/** Of the JSON that Grafana 10 and later read. */
const SCHEMA_VERSION = 39;

/** Chooses instances of gateways in the queries of pages that have `$gateway`. */
export const OF_GATEWAY = 'instance=~"$gateway"';

/** A page as Grafana reads it. */
export function dashboardJson({ uid, title, about, rows }: Dashboard): object {
  const panels: object[] = [];
  let id = 1;
  let y = 0;
  for (const row of rows) {
    panels.push({
      id: id++,
      type: 'row',
      title: row.title,
      collapsed: false,
      gridPos: { x: 0, y, w: 24, h: 1 },
      panels: [],
    });
    y += 1;
    let x = 0;
    let height = 0;
    for (const panel of row.panels) {
      const { w, h } = panel.stat ? STAT : CURVES;
      if (x + w > GRID_WIDTH) {
        x = 0;
        y += height;
        height = 0;
      }
      panels.push(panelJson(panel, id++, { x, y, w, h }));
      x += w;
      height = Math.max(height, h);
    }
    y += height;
  }
  const ofGateways = rows.some((row) =>
    row.panels.some(({ queries }) => queries.some(([expr]) => expr.includes('$gateway'))),
  );
  return {
    uid,
    title,
    description: about,
    tags: ['traffic-share'],
    schemaVersion: SCHEMA_VERSION,
    editable: false,
    graphTooltip: 1,
    refresh: '30s',
    time: { from: 'now-3h', to: 'now' },
    timezone: 'utc',
    links: [
      {
        title: 'Traffic Share',
        type: 'dashboards',
        tags: ['traffic-share'],
        asDropdown: true,
        keepTime: true,
      },
    ],
    templating: {
      list: [
        { name: 'datasource', label: 'Prometheus', type: 'datasource', query: 'prometheus' },
        ...(ofGateways ? [gatewayVariable] : []),
      ],
    },
    annotations: { list: [] },
    panels,
  };
}

const gatewayVariable = {
  name: 'gateway',
  label: 'Gateway',
  type: 'query',
  datasource: DATASOURCE,
  query: { query: 'label_values(ts_tunnels, instance)', refId: 'gateway' },
  refresh: 2,
  sort: 1,
  multi: true,
  includeAll: true,
  allValue: '.*',
  current: { text: 'All', value: '$__all' },
};

function panelJson(
  { title, about, unit, stat, alarmFrom, queries }: Panel,
  id: number,
  gridPos: object,
): object {
  const targets = queries.map(([expr, legendFormat], i) => ({
    refId: String.fromCharCode(65 + i),
    datasource: DATASOURCE,
    editorMode: 'code',
    expr,
    legendFormat,
    ...(stat ? { instant: true } : { range: true }),
  }));
  const steps = [
    { color: 'green', value: null },
    ...(alarmFrom === undefined ? [] : [{ color: 'red', value: alarmFrom }]),
  ];
  return {
    id,
    type: stat ? 'stat' : 'timeseries',
    title,
    ...(about === undefined ? {} : { description: about }),
    datasource: DATASOURCE,
    gridPos,
    targets,
    fieldConfig: {
      defaults: {
        unit,
        ...(stat
          ? { thresholds: { mode: 'absolute', steps } }
          : { min: 0, custom: { lineWidth: 1, fillOpacity: 8, showPoints: 'never', spanNulls: false } }),
      },
      overrides: [],
    },
    options: stat
      ? {
          reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
          colorMode: 'value',
          graphMode: 'none',
        }
      : {
          legend: { displayMode: 'table', placement: 'bottom', calcs: ['lastNotNull', 'max'] },
          tooltip: { mode: 'multi', sort: 'desc' },
        },
  };
}

// Queries that come again and again. Their window is Grafana's own for the step of the graph and the scrape interval.

/** How often a second a counter grows, summed over all that is not named; `by`: labels that stay. */
export function perSecond(counter: string, by = '', where = ''): string {
  const selector = where === '' ? counter : `${counter}{${where}}`;
  return `sum${by === '' ? '' : ` by (${by})`} (rate(${selector}[$__rate_interval]))`;
}

/** A quantile of a histogram. */
export function quantile(q: number, histogram: string, where = '', by = ''): string {
  const selector = `${histogram}_bucket${where === '' ? '' : `{${where}}`}`;
  return `histogram_quantile(${q}, sum by (le${by === '' ? '' : `, ${by}`}) (rate(${selector}[$__rate_interval])))`;
}
