import"./index-BUniMyR3.js";import"./legacy-DwWrcFtY.js";import{P as t}from"./PageHead-CugQNf34.js";function r(o){t(o,{title:"Jobs"})}export{r as default};
