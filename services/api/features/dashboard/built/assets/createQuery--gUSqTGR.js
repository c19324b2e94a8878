import{al as r,am as a}from"./index-lAI1zzc-.js";function s(e,t){return r(e,a)}export{s as c};
